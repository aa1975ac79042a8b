/**
 * Following logs through the stream hubs: Durable Objects that each hold one connection to Redis for many streams. A
 * request may not use a socket that another request opened, so without hubs each stream needs its own connection, and many
 * Redis servers accept only hundreds. The id of the job or tenant decides which hub follows its log.
 */
import type { LogEntry } from "../../shared/jobs/log-entry.ts";
import type { InboxEntry } from "../../shared/webhooks/inbox-store.ts";
import { queueUnavailable } from "./connection.ts";
import type { FollowRequest, LogReader, WaitRequest } from "./follow.ts";
import { failureOf, fromLine, type HubPath } from "./hub-lines.ts";

export class HubLogs implements LogReader {
  readonly #hubs: DurableObjectNamespace;
  readonly #count: number;
  readonly #shard: number;
  readonly #options: DurableObjectNamespaceGetDurableObjectOptions;

  /**
   * @param count how many hubs are used
   * @param locationHint the region of hubs that have not been used yet
   * @param shard the Redis that holds the logs: each has hubs of its own
   */
  constructor(
    hubs: DurableObjectNamespace,
    count: number,
    locationHint?: DurableObjectLocationHint,
    shard = 0,
  ) {
    this.#shard = shard;
    this.#hubs = hubs;
    this.#count = count;
    this.#options = locationHint === undefined ? {} : { locationHint };
  }

  async *job(jobId: string, request: FollowRequest): AsyncGenerator<LogEntry, void, undefined> {
    for await (const line of this.#lines("job", jobId, request)) yield fromLine(line);
  }

  async jobEnd(jobId: string, request: WaitRequest): Promise<void> {
    // The hub writes heartbeats only, and ends the reply when the job has ended.
    await this.#lines("job-end", jobId, { ...request, after: 0 }).next();
  }

  async *inbox(
    tenant: string,
    request: FollowRequest,
  ): AsyncGenerator<InboxEntry, void, undefined> {
    const lines = this.#lines("inbox", tenant, request);
    for await (const line of lines) yield JSON.parse(line) as InboxEntry;
  }

  /** @throws AppError queue_unavailable if the hub, or Redis behind it, does not answer; Error for a bug in the hub */
  async *#lines(
    path: HubPath,
    name: string,
    { after, signal, onIdle, authority }: FollowRequest,
  ): AsyncGenerator<string, void, undefined> {
    const number = hubOf(name, this.#count);
    const hubName = this.#shard === 0 ? String(number) : `${this.#shard}:${number}`;
    const hub = this.#hubs.getByName(hubName, this.#options);
    const query = new URLSearchParams({ name, after: String(after) });
    if (this.#shard !== 0) query.set("shard", String(this.#shard));
    if (authority !== undefined) query.set("authority", JSON.stringify(authority));
    const reply = await hub
      .fetch(`http://stream-hub/${path}?${query.toString()}`)
      .catch(throwUnavailable);
    const reader = reply.body!.getReader();
    const decoder = new TextDecoder();
    const cancel = () => void reader.cancel().catch(() => {});
    signal.addEventListener("abort", cancel);
    if (signal.aborted) cancel();
    try {
      let incomplete = "";
      for (;;) {
        const { done, value } = await reader.read().catch(throwUnavailable);
        if (done || signal.aborted) return;
        const lines = (incomplete + decoder.decode(value, { stream: true })).split("\n");
        incomplete = lines.pop()!;
        for (const line of lines) {
          const failure = failureOf(line);
          if (failure !== null) throw failure;
          if (line === "") onIdle?.();
          else yield line;
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", cancel);
      cancel();
    }
  }
}

function throwUnavailable(cause: unknown): never {
  throw queueUnavailable(cause);
}

/** FNV-1a, modulo the number of hubs. */
function hubOf(name: string, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % count;
}
