/**
 * Reading a log as it grows, each entry once and in order, however late, often or interrupted the reader comes.
 * The log is the truth and the bell only says that there is more (and, to save a read, what).
 */
import { isEnd, type JobEvent } from "./contract.ts";
import { toEvent } from "./job.ts";
import type { JobStore } from "./job-store.ts";
import type { InboxEntry, InboxStore } from "./inbox-store.ts";
import { bellChannel, inboxBellChannel } from "./redis-keys.ts";

/** The part of an ioredis client that hears bells. With RESP3 the same connection may go on reading the log. */
export interface BellClient {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "ready", listener: () => void): unknown;
  off(event: "message", listener: (channel: string, message: string) => void): unknown;
  off(event: "ready", listener: () => void): unknown;
}

export interface FollowOptions {
  /** Sequence number of the last event that the reader has; 0 for none. */
  readonly after: number;
  readonly signal: AbortSignal;
  /** The log is read at least this often, because pub/sub loses what is said while a connection is down. */
  readonly pollMs: number;
  /** Called when `pollMs` passed without an event: a place for heartbeats. */
  readonly onIdle?: () => void;
}

/** Entries that one reader may have waiting; a slow reader's surplus is dropped here and comes from the log later. */
const WAITING_MAX = 100;
/** Entries that are read from the log at once. */
const PAGE = 100;

/** A log and its bell. */
interface Source<T> {
  readonly channel: string;
  /** The first `PAGE` entries after a number, as the log has them now. */
  readonly read: (after: number) => Promise<readonly T[]>;
  /** The entry that a bell tells, or null if it tells only that there is one. */
  readonly heard: (message: string) => T | null;
  /** Whether nothing comes after this entry. */
  readonly isEnd: (entry: T) => boolean;
  /** Whether the log was deleted. */
  readonly isGone: () => Promise<boolean>;
}

/** Yields every event of a job after `after`; ends after the terminal one, on abort, or when the job is deleted. */
export function follow(
  redis: BellClient,
  store: JobStore,
  jobId: string,
  options: FollowOptions,
): AsyncGenerator<JobEvent, void, undefined> {
  const source: Source<JobEvent> = {
    channel: bellChannel(jobId),
    read: (after) => store.log(jobId, after, PAGE),
    heard: parseBell,
    isEnd,
    isGone: async () => (await store.record(jobId)) === null,
  };
  return followLog(redis, source, options);
}

/** Yields every message of a tenant's inbox after `after` that is kept; ends on abort. */
export function followInbox(
  redis: BellClient,
  inbox: InboxStore,
  tenant: string,
  options: FollowOptions,
): AsyncGenerator<InboxEntry, void, undefined> {
  const source: Source<InboxEntry> = {
    channel: inboxBellChannel(tenant),
    read: (after) => inbox.read(tenant, after, PAGE),
    heard: () => null,
    isEnd: () => false,
    isGone: async () => false,
  };
  return followLog(redis, source, options);
}

/**
 * One reader of a log per connection: the end unsubscribes.
 * The bell is subscribed to before the log is first read, so that nothing falls between the two.
 */
async function* followLog<T extends { readonly seq: number }>(
  redis: BellClient,
  { channel, read, heard, isEnd, isGone }: Source<T>,
  { after, signal, pollMs, onIdle }: FollowOptions,
): AsyncGenerator<T, void, undefined> {
  let cursor = after;
  let waiting: T[] = [];
  /** Whether the log has entries that are not waiting here. */
  let dropped = false;
  let wake = () => {};
  const onMessage = (from: string, message: string) => {
    if (from !== channel) return;
    const entry = waiting.length < WAITING_MAX ? heard(message) : null;
    if (entry === null) dropped = true;
    else waiting.push(entry);
    wake();
  };
  /** What was said while the connection was lost is in the log. */
  const onReady = () => {
    const missed = () => {
      dropped = true;
      wake();
    };
    redis.subscribe(channel).then(missed, missed);
  };
  const onAbort = () => wake();
  /** Resolves to false if nothing happened for `pollMs`. */
  const somethingHappens = () =>
    new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), pollMs);
      wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
      if (dropped || waiting.length > 0 || signal.aborted) wake();
    });

  redis.on("message", onMessage);
  signal.addEventListener("abort", onAbort);
  try {
    await redis.subscribe(channel);
    redis.on("ready", onReady);
    let entries = await read(cursor);
    for (;;) {
      for (const entry of entries) {
        if (signal.aborted) return;
        cursor = entry.seq;
        yield entry;
        if (isEnd(entry)) return;
      }
      if (entries.length === PAGE) dropped = true;
      const happened = await somethingHappens();
      if (signal.aborted) return;
      if (!happened) onIdle?.();
      const rung = waiting.filter((entry) => entry.seq > cursor);
      const whole = !dropped && continues(rung, cursor);
      waiting = [];
      dropped = false;
      entries = whole ? rung : await read(cursor);
      if (!happened && entries.length === 0 && (await isGone())) return;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    redis.off("ready", onReady);
    redis.off("message", onMessage);
    await redis.unsubscribe(channel).catch(() => {});
  }
}

/** Whether the entries follow the cursor without a gap. */
function continues(entries: readonly { readonly seq: number }[], cursor: number): boolean {
  return entries.length > 0 && entries.every(({ seq }, i) => seq === cursor + 1 + i);
}

/** Reads "seq\ntype\ndata": JSON text holds no raw line break, so the first two separate. */
function parseBell(message: string): JobEvent {
  const first = message.indexOf("\n");
  const second = message.indexOf("\n", first + 1);
  const seq = Number(message.slice(0, first));
  return toEvent(seq, message.slice(first + 1, second), message.slice(second + 1));
}
