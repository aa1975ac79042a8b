/**
 * A stream hub: it follows logs for many streams over one connection to Redis, and sends each request the
 * entries of its log as lines (hub-lines.ts). The side of the requests is hub-client.ts.
 */
import type { Env } from "../runtime/env.ts";
import { connectToFollow } from "./connection.ts";
import type { FollowRequest, LogReader } from "./follow.ts";
import type { Authority } from "./key-watch.ts";
import { envsOfShards } from "./request-shards.ts";
import { HUB_PATHS, toFailureLine, toLine, type HubPath } from "./hub-lines.ts";
import { logsOver } from "./shared-logs.ts";

/** The connection that all streams of a hub share. */
interface SharedConnection {
  readonly logs: LogReader;
  readonly close: () => void;
}

export class Hub {
  readonly #env: Env;
  /** Open while there are streams. */
  #connection: SharedConnection | null = null;
  #streams = 0;

  constructor(env: Env) {
    this.#env = env;
  }

  /** @param request `GET /{path}?name={job id or tenant}&after={sequence number}&authority={JSON}&shard={number}`, path as in HUB_PATHS; a hub has one shard */
  fetch(request: Request): Response {
    const { pathname, searchParams } = new URL(request.url);
    const path = HUB_PATHS.find((path) => pathname === `/${path}`)!;
    const name = searchParams.get("name")!;
    const authority = searchParams.get("authority");
    const shard = Number(searchParams.get("shard"));
    const cancelled = new AbortController();
    const signal = AbortSignal.any([cancelled.signal, request.signal]);
    const encoder = new TextEncoder();
    const bytesOf = (line: string) => encoder.encode(`${line}\n`);
    let onIdle = () => {};
    const lines = this.#lines(shard, path, name, {
      after: Number(searchParams.get("after")),
      signal,
      onIdle: () => onIdle(),
      ...(authority !== null && { authority: JSON.parse(authority) as Authority }),
    });
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        onIdle = () => {
          if (controller.desiredSize! > 0) controller.enqueue(bytesOf(""));
        };
        // A reader that has disconnected may never pull again.
        signal.addEventListener("abort", () => void lines.return(undefined));
      },
      async pull(controller) {
        try {
          const { done, value } = await lines.next();
          if (!done) return controller.enqueue(bytesOf(value));
        } catch (error) {
          if (!signal.aborted) controller.enqueue(bytesOf(toFailureLine(error)));
        }
        if (!signal.aborted) controller.close();
      },
      cancel() {
        cancelled.abort();
      },
    });
    return new Response(body);
  }

  async *#lines(
    shard: number,
    path: HubPath,
    name: string,
    request: FollowRequest,
  ): AsyncGenerator<string> {
    this.#streams++;
    try {
      const { logs } = (this.#connection ??= this.#open(shard));
      if (path === "job") {
        for await (const entry of logs.job(name, request)) yield toLine(entry);
      } else if (path === "inbox") {
        for await (const entry of logs.inbox(name, request)) yield JSON.stringify(entry);
      } else await logs.jobEnd(name, request);
    } finally {
      if (--this.#streams === 0) this.#connection?.close();
    }
  }

  #open(shard: number): SharedConnection {
    const redis = connectToFollow(envsOfShards(this.#env)[shard]!);
    const dropConnection = () => {
      if (this.#connection === connection) this.#connection = null;
    };
    const connection: SharedConnection = {
      logs: logsOver(redis, this.#env),
      close: () => {
        dropConnection();
        redis.disconnect();
      },
    };
    // The connection has ended for good: the next stream must open a new one.
    redis.on("end", dropConnection);
    return connection;
  }
}
