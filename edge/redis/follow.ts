/**
 * Following a log as it grows: a reader gets each entry once and in order, even if it starts late or connections are lost. Only
 * the log is complete. A message on the log's channel announces that the log has grown; it may contain the new entry, which
 * saves reading the log.
 */
import { isTerminal } from "../../shared/api/jobs.ts";
import { isLastType, type LogEntry } from "../../shared/jobs/log-entry.ts";
import type { JobStore } from "../../shared/jobs/store.ts";
import type { KeyRegistry } from "../../shared/keys/registry.ts";
import { eventChannel, inboxChannel } from "../../shared/redis/keys.ts";
import type { InboxEntry, InboxStore } from "../../shared/webhooks/inbox-store.ts";
import { KeyWatch, type Authority } from "./key-watch.ts";
import { ReadPosition } from "./read-position.ts";

/**
 * The part of an ioredis client that receives channel messages. With RESP3, the same connection may read the log while it
 * is subscribed.
 */
export interface SubscriberClient {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "ready", listener: () => void): unknown;
  off(event: "message", listener: (channel: string, message: string) => void): unknown;
  off(event: "ready", listener: () => void): unknown;
}

export interface WaitRequest {
  /** Aborting it ends the reading without an error. */
  readonly signal: AbortSignal;
  /** Called each time that the poll interval has passed without an entry, to send a heartbeat. */
  readonly onIdle?: () => void;
  /** The key or ticket that allows the reader to read; absent for a reader that always may. */
  readonly authority?: Authority | undefined;
}

export interface FollowRequest extends WaitRequest {
  /** Sequence number of the last entry that the reader has; 0 for none. */
  readonly after: number;
}

/**
 * Follows logs. Reading ends with an AppError: invalid_api_key or permission_denied when the reader may not read any more,
 * events_lost when a failover of Redis has lost entries that the reader has.
 */
export interface LogReader {
  /** Entries of a job's log; ends after the last event, on abort, or when the job is deleted. */
  job(jobId: string, request: FollowRequest): AsyncGenerator<LogEntry, void, undefined>;
  /** Resolves when the job has ended or was deleted, or on abort. It does not read token events. */
  jobEnd(jobId: string, request: WaitRequest): Promise<void>;
  /** Messages of a tenant's inbox that are still kept; ends on abort. */
  inbox(tenant: string, request: FollowRequest): AsyncGenerator<InboxEntry, void, undefined>;
}

/** Entries that may be pending for one reader. If a reader is slow, the rest is dropped here and read from the log later. */
const PENDING_MAX = 100;
/** Entries that are read from the log at once. */
const PAGE = 100;

/** The content of a channel message: an entry, "more" (the log has new entries), or "nothing" for this reader. */
type Content<T> = T | "more" | "nothing";

/** A log and its channel. */
interface Source<T> {
  readonly channel: string;
  /** The first `PAGE` entries after a sequence number, as the log has them now. */
  readonly read: (after: number) => Promise<readonly T[]>;
  readonly fromMessage: (message: string) => Content<T>;
  /** Whether the log has the entry with this number, and it is `last` if that is not null. */
  readonly has: (seq: number, last: T | null) => Promise<boolean>;
  /** Whether this entry is the last one. */
  readonly isLast: (entry: T) => boolean;
  readonly isDeleted: () => Promise<boolean>;
}

/** Follows logs over one Redis client. */
export class RedisLogs implements LogReader {
  readonly #subscriber: () => SubscriberClient;
  readonly #jobs: JobStore;
  readonly #inbox: InboxStore;
  readonly #keys: KeyRegistry;
  readonly #pollMs: number;

  /**
   * @param subscriber called once for each reader
   * @param pollMs a log is read at least this often, because pub/sub loses messages while a connection is down
   */
  constructor(
    subscriber: () => SubscriberClient,
    jobs: JobStore,
    inbox: InboxStore,
    keys: KeyRegistry,
    pollMs: number,
  ) {
    this.#subscriber = subscriber;
    this.#jobs = jobs;
    this.#inbox = inbox;
    this.#keys = keys;
    this.#pollMs = pollMs;
  }

  job(jobId: string, request: FollowRequest): AsyncGenerator<LogEntry, void, undefined> {
    return this.#follow(request, {
      channel: eventChannel(jobId),
      read: (after) => this.#jobs.entries(jobId, after, PAGE),
      has: async (seq, last) => {
        const [entry] = await this.#jobs.entries(jobId, seq - 1, 1);
        if (entry?.seq !== seq) return false;
        return last === null || (entry.type === last.type && entry.data === last.data);
      },
      fromMessage: parseMessage,
      isLast: ({ type }) => isLastType(type),
      isDeleted: async () => (await this.#jobs.record(jobId)) === null,
    });
  }

  async jobEnd(jobId: string, request: WaitRequest): Promise<void> {
    const ends = this.#follow<{ readonly seq: number }>(
      { ...request, after: 0 },
      {
        channel: eventChannel(jobId),
        // A "log" of one entry, which is there once the job has ended or is deleted. A deletion publishes a last event too.
        read: async () => {
          const job = await this.#jobs.record(jobId);
          return job === null || isTerminal(job.state) ? [{ seq: 1 }] : [];
        },
        has: async () => true,
        fromMessage: (message) => (isLastType(messageType(message)) ? "more" : "nothing"),
        isLast: () => true,
        isDeleted: async () => false,
      },
    );
    await ends.next();
    await ends.return();
  }

  inbox(tenant: string, request: FollowRequest): AsyncGenerator<InboxEntry, void, undefined> {
    return this.#follow(request, {
      channel: inboxChannel(tenant),
      read: (after) => this.#inbox.read(tenant, after, PAGE),
      // Old messages are deleted, so only their numbers tell.
      has: async (seq) => (await this.#inbox.lastSeq(tenant)) >= seq,
      fromMessage: () => "more",
      isLast: () => false,
      isDeleted: async () => false,
    });
  }

  #follow<T extends { readonly seq: number }>(
    request: FollowRequest,
    source: Source<T>,
  ): AsyncGenerator<T, void, undefined> {
    const watch = new KeyWatch(this.#keys, request.authority, this.#pollMs);
    return followLog(this.#subscriber(), source, watch, request, this.#pollMs);
  }
}

/**
 * Yields the entries of a log. It subscribes before it first reads the log, so that no entry is lost between the two, and
 * unsubscribes at its end. A client that is not shared through SharedSubscriptions may have only one reader of each log.
 */
async function* followLog<T extends { readonly seq: number }>(
  client: SubscriberClient,
  { channel, read, has, fromMessage, isLast, isDeleted }: Source<T>,
  watch: KeyWatch,
  { after, signal, onIdle }: FollowRequest,
  pollMs: number,
): AsyncGenerator<T, void, undefined> {
  const position = new ReadPosition<T>(after);
  /** Entries from messages, not yet yielded. */
  let pending: T[] = [];
  /** Whether the log may have entries that are not pending. */
  let mustRead = false;
  const channels = [channel, ...watch.channels];
  const subscribe = () => Promise.all(channels.map((name) => client.subscribe(name)));
  let wake = () => {};
  const onMessage = (from: string, message: string) => {
    if (watch.channels.includes(from)) {
      watch.mustCheck();
      wake();
    }
    if (from !== channel) return;
    const content = pending.length < PENDING_MAX ? fromMessage(message) : "more";
    if (content === "nothing") return;
    if (content === "more") mustRead = true;
    else pending.push(content);
    wake();
  };
  /** Messages that were published while the connection was lost are in the log. */
  const onReady = () => {
    position.mustCheck = true;
    const readAgain = () => {
      mustRead = true;
      watch.mustCheck();
      wake();
    };
    subscribe().then(readAgain, readAgain);
  };
  const onAbort = () => wake();
  /** Resolves to false if nothing happened for `pollMs`. */
  const nextWake = () =>
    new Promise<boolean>((resolve) => {
      const waitMs = Math.min(pollMs, watch.secretEndsInMs);
      const timer = setTimeout(() => resolve(waitMs < pollMs), waitMs);
      wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
      if (mustRead || pending.length > 0 || watch.isDue || signal.aborted) wake();
    });

  client.on("message", onMessage);
  signal.addEventListener("abort", onAbort);
  try {
    await subscribe();
    client.on("ready", onReady);
    let [entries] = await Promise.all([read(after), watch.check()]);
    for (;;) {
      for (const entry of entries) {
        await watch.check();
        if (signal.aborted) return;
        position.advance(entry);
        yield entry;
        if (isLast(entry)) return;
      }
      if (entries.length === PAGE) mustRead = true;
      const isAwake = await nextWake();
      if (signal.aborted) return;
      await watch.check();
      if (!isAwake) onIdle?.();
      if (!(await position.isKept(has, isDeleted))) return;
      const next = position.next(mustRead ? [] : pending, read);
      pending = [];
      mustRead = false;
      entries = await next;
      if (!isAwake && entries.length === 0 && (await isDeleted())) return;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    client.off("ready", onReady);
    client.off("message", onMessage);
    await Promise.all(channels.map((name) => client.unsubscribe(name))).catch(() => {});
  }
}

/** Reads the message "seq\ntype\ndata". JSON text has no raw line break, so the first two line breaks separate. */
function parseMessage(message: string): LogEntry {
  const [first, second] = lineBreaks(message);
  return {
    seq: Number(message.slice(0, first)),
    type: message.slice(first + 1, second),
    data: message.slice(second + 1),
  };
}

function messageType(message: string): string {
  const [first, second] = lineBreaks(message);
  return message.slice(first + 1, second);
}

function lineBreaks(message: string): [number, number] {
  const first = message.indexOf("\n");
  return [first, message.indexOf("\n", first + 1)];
}
