/**
 * Reading a job's events as they happen, each once and in order, however late, often or interrupted the reader comes.
 * The log is the truth and the bell only says that there is more (and, to save a read, what).
 */
import { isTerminal, type JobEvent } from "./contract.ts";
import { toEvent } from "./job.ts";
import type { JobStore } from "./job-store.ts";
import { bellChannel } from "./redis-keys.ts";

/** The part of an ioredis client that hears bells. With RESP3 the same connection may go on reading the log. */
export interface BellClient {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  off(event: "message", listener: (channel: string, message: string) => void): unknown;
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

/** Events that one reader may have waiting; a slow reader's surplus is dropped here and comes from the log later. */
const WAITING_MAX = 1_000;

/**
 * Yields every event after `after`; ends after the terminal one, on abort, or when the job is deleted.
 * One reader of a job per connection: the end unsubscribes.
 * The bell is subscribed to before the log is first read, so that nothing falls between the two.
 */
export async function* follow(
  redis: BellClient,
  store: JobStore,
  jobId: string,
  { after, signal, pollMs, onIdle }: FollowOptions,
): AsyncGenerator<JobEvent, void, undefined> {
  const channel = bellChannel(jobId);
  let cursor = after;
  let waiting: JobEvent[] = [];
  let dropped = false;
  let wake = () => {};
  const onMessage = (from: string, message: string) => {
    if (from !== channel) return;
    if (waiting.length < WAITING_MAX) waiting.push(parseBell(message));
    else dropped = true;
    wake();
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
      if (waiting.length > 0 || signal.aborted) wake();
    });

  redis.on("message", onMessage);
  signal.addEventListener("abort", onAbort);
  try {
    await redis.subscribe(channel);
    let events = await store.log(jobId, cursor);
    for (;;) {
      for (const event of events) {
        if (signal.aborted) return;
        cursor = event.seq;
        yield event;
        if (isEnd(event)) return;
      }
      const happened = await somethingHappens();
      if (signal.aborted) return;
      if (!happened) onIdle?.();
      const rung = waiting.filter((event) => event.seq > cursor);
      const whole = !dropped && continues(rung, cursor);
      waiting = [];
      dropped = false;
      events = whole ? rung : await store.log(jobId, cursor);
      if (!happened && events.length === 0 && (await store.record(jobId)) === null) return;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    redis.off("message", onMessage);
    await redis.unsubscribe(channel).catch(() => {});
  }
}

function isEnd(event: JobEvent): boolean {
  return event.type !== "tokens" && event.type !== "started" && isTerminal(event.type);
}

/** Whether the events follow the cursor without a gap. */
function continues(events: readonly JobEvent[], cursor: number): boolean {
  return events.length > 0 && events.every((event, i) => event.seq === cursor + 1 + i);
}

/** Reads "seq\ntype\ndata": JSON text holds no raw line break, so the first two separate. */
function parseBell(message: string): JobEvent {
  const first = message.indexOf("\n");
  const second = message.indexOf("\n", first + 1);
  const seq = Number(message.slice(0, first));
  return toEvent(seq, message.slice(first + 1, second), message.slice(second + 1));
}
