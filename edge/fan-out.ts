/**
 * Following logs for many streams over few connections. A Worker's request may not use a socket that another one opened,
 * so each stream would hold a connection to Redis of its own, of which many a Redis has only hundreds; a Durable Object
 * holds one for all the streams that come to it. Which object that is, the name of the log decides.
 * Between the two goes one line of JSON for each entry, and an empty line for a heartbeat.
 */
import { DurableObject } from "cloudflare:workers";
import { follow, followInbox, type FollowOptions } from "../shared/follow.ts";
import { InboxStore } from "../shared/inbox-store.ts";
import { JobStore } from "../shared/job-store.ts";
import type { FollowRequest } from "./backend.ts";
import { Bells } from "./bells.ts";
import { connect } from "./connect.ts";
import { parseEnv, type Env } from "./env.ts";

export type LogKind = "job" | "inbox";
type Entry = { readonly seq: number };

export interface Objects {
  readonly followers: DurableObjectNamespace;
  /** Of which so many are used. */
  readonly count: number;
}

/** Yields a log's entries after a number as they come. @throws Error when the object, or Redis behind it, fails */
export async function* fannedOut<T extends Entry>(
  { followers, count }: Objects,
  kind: LogKind,
  name: string,
  { after, signal, onIdle }: FollowRequest,
): AsyncGenerator<T> {
  const stub = followers.getByName(String(objectOf(name, count)));
  const query = new URLSearchParams({ name, after: String(after) }).toString();
  const reply = await stub.fetch(`http://followers/${kind}?${query}`);
  const reader = reply.body!.getReader();
  const decoder = new TextDecoder();
  const leave = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", leave);
  if (signal.aborted) leave();
  try {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      const whole = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = whole.pop()!;
      for (const line of whole) {
        if (line === "") onIdle?.();
        else yield JSON.parse(line) as T;
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", leave);
    leave();
  }
}

/** FNV-1a, modulo the number of objects. */
function objectOf(name: string, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % count;
}

/** What all streams of an object share. */
interface Source {
  readonly bells: Bells;
  readonly store: JobStore;
  readonly inbox: InboxStore;
  readonly close: () => void;
}

export class Followers extends DurableObject {
  readonly #env: Env;
  /** Open while there are streams. */
  #source: Source | null = null;
  #streams = 0;

  constructor(state: DurableObjectState, bindings: Cloudflare.Env) {
    super(state, bindings);
    this.#env = parseEnv(bindings);
  }

  override fetch(request: Request): Response {
    const { pathname, searchParams } = new URL(request.url);
    const name = searchParams.get("name")!;
    const gone = new AbortController();
    let idle = () => {};
    const options: FollowOptions = {
      after: Number(searchParams.get("after")),
      signal: AbortSignal.any([gone.signal, request.signal]),
      pollMs: this.#env.STREAM_HEARTBEAT_SECONDS * 1000,
      onIdle: () => idle(),
    };
    const entries = this.#entries(pathname === "/job" ? "job" : "inbox", name, options);
    const encoder = new TextEncoder();
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        idle = () => {
          if (controller.desiredSize! > 0) controller.enqueue(encoder.encode("\n"));
        };
        // A reader that has gone may never pull again.
        options.signal.addEventListener("abort", () => void entries.return(undefined));
      },
      async pull(controller) {
        const { done, value } = await entries.next();
        if (!done) controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
        else if (!options.signal.aborted) controller.close();
      },
      cancel() {
        gone.abort();
      },
    });
    return new Response(body);
  }

  async *#entries(kind: LogKind, name: string, options: FollowOptions): AsyncGenerator<Entry> {
    this.#streams++;
    const source = (this.#source ??= this.#open());
    const { bells, store, inbox } = source;
    try {
      if (kind === "job") yield* follow(bells.reader(), store, name, options);
      else yield* followInbox(bells.reader(), inbox, name, options);
    } finally {
      if (--this.#streams === 0) this.#source?.close();
    }
  }

  #open(): Source {
    const redis = connect(this.#env);
    const forget = () => {
      if (this.#source === source) this.#source = null;
    };
    const source: Source = {
      bells: new Bells(redis),
      store: new JobStore(redis, this.#env.RESULT_TTL_SECONDS * 1000),
      inbox: new InboxStore(redis),
      close: () => {
        forget();
        redis.disconnect();
      },
    };
    // One that was given up is of no use to those who come.
    redis.on("end", forget);
    return source;
  }
}
