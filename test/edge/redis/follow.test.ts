/** Readers of logs: one that is late, early, slow or disconnected from Redis gets every entry once and in order. */
import { Redis } from "ioredis";
import { afterAll, expect, inject, test, vi } from "vitest";
import { newId } from "../../../shared/ids.ts";
import type { Outcome } from "../../../shared/api/job-events.ts";
import {
  RedisLogs,
  type FollowRequest,
  type SubscriberClient,
} from "../../../edge/redis/follow.ts";
import type { LogEntry } from "../../../shared/jobs/log-entry.ts";
import { InboxStore } from "../../../shared/webhooks/inbox-store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { testMessage } from "../../../shared/webhooks/message.ts";
import { eventChannel, jobKey, logKey } from "../../../shared/redis/keys.ts";
import { claimJob } from "../../support/claim.ts";
import { newJob } from "../../support/generation.ts";
import { FakeSubscriber } from "../../support/fake-subscriber.ts";

const url = inject("redisUrl");
const redis = new Redis(url);
const store = new JobStore(redis, 60_000);
const inbox = new InboxStore(redis);
const keys = new KeyRegistry(redis);
const readers: Redis[] = [];
afterAll(() => {
  for (const client of [redis, ...readers]) client.disconnect();
});

const usage = {
  prompt_tokens: 1,
  completion_tokens: 1,
  total_tokens: 2,
  prompt_tokens_details: { cached_tokens: 0 },
  speculation: { drafted_tokens: 0, accepted_tokens: 0 },
};
const success: Outcome = { finish_reason: "stop", usage, error: null };

/** Creates a job that a worker has claimed; its log has two events. */
async function running(): Promise<string> {
  const id = newId("job");
  await store.submit(newJob({ id, tenant: "acme" }));
  await claimJob(redis, id);
  return id;
}

const tokenCounts = new Map<string, number>();
function append(id: string, text: string) {
  const at = tokenCounts.get(id) ?? 0;
  tokenCounts.set(id, at + 1);
  return store.appendTokens(id, 1, at, { ids: [1], text });
}
const end = (id: string) => store.finish(id, 1, "succeeded", "", success);

/** A connection that both subscribes and reads, as a stream of the edge has it. */
function newReader(): Redis {
  const reader = new Redis(url);
  readers.push(reader);
  return reader;
}

/** Longer than any test takes, so that entries arrive by the channel unless a test sets a shorter interval. */
const POLL_MS = 60_000;

interface ReadOptions extends Partial<FollowRequest> {
  readonly pollMs?: number;
}

function logsOf(subscriber: SubscriberClient, pollMs = POLL_MS, jobs = store): RedisLogs {
  return new RedisLogs(() => subscriber, jobs, inbox, keys, pollMs);
}

function read(
  id: string,
  { pollMs, ...options }: ReadOptions = {},
  subscriber: SubscriberClient = newReader(),
) {
  const { signal } = new AbortController();
  return logsOf(subscriber, pollMs).job(id, { after: 0, signal, ...options });
}

const seqsOf = (events: readonly LogEntry[]) => events.map(({ seq }) => seq);
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("a reader that comes after the end gets the whole log", async () => {
  const id = await running();
  await append(id, "a");
  await end(id);
  expect(seqsOf(await Array.fromAsync(read(id)))).toEqual([1, 2, 3, 4]);
});

test("a reader that comes in the middle gets the past events and then the new ones", async () => {
  const id = await running();
  const events = read(id);
  expect([(await events.next()).value?.seq, (await events.next()).value?.seq]).toEqual([1, 2]);
  const third = events.next();
  await append(id, "a");
  expect((await third).value).toEqual({
    seq: 3,
    type: "tokens",
    data: '{"ids":[1],"text":"a"}',
  });
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual([4]);
});

test("a reader resumes after its cursor", async () => {
  const id = await running();
  await append(id, "a");
  await end(id);
  expect(seqsOf(await Array.fromAsync(read(id, { after: 3 })))).toEqual([4]);
});

test("a reader that stops early does not disturb another one of the same job", async () => {
  const id = await running();
  const whole = Array.fromAsync(read(id));
  for await (const event of read(id)) if (event.seq === 2) break;
  for (const text of "abc") await append(id, text);
  await end(id);
  expect(seqsOf(await whole)).toEqual(range(1, 6));
});

test("an event that is added between the subscription and the first read is returned once", async () => {
  const id = await running();
  const subscriber = newReader();
  const subscribe = subscriber.subscribe.bind(subscriber) as SubscriberClient["subscribe"];
  vi.spyOn(subscriber, "subscribe").mockImplementation(async (channel) => {
    await subscribe(String(channel));
    await append(id, "between");
  });
  const events = read(id, {}, subscriber);
  for (const seq of [1, 2, 3]) expect((await events.next()).value?.seq).toBe(seq);
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual([4]);
});

test("events beyond the largest number of pending ones are read from the log", async () => {
  const id = await running();
  const events = read(id);
  await events.next();
  // The reader does not read its second event before all these are appended.
  const texts = Array.from({ length: 1_500 }, (_, i) => String(i));
  await Promise.all(texts.map((text) => append(id, text)));
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual(range(2, 1_503));
});

test("a lost channel message leaves a gap, which the next message reveals and the log fills", async () => {
  const id = await running();
  const subscriber = new FakeSubscriber();
  const events = read(id, { after: 2 }, subscriber);
  const first = events.next();
  await append(id, "a");
  await append(id, "b");
  subscriber.publish(eventChannel(id), '4\ntokens\n{"ids":[1],"text":"b"}');
  expect((await first).value).toMatchObject({ seq: 3, data: '{"ids":[1],"text":"a"}' });
  expect((await events.next()).value).toMatchObject({ seq: 4, data: '{"ids":[1],"text":"b"}' });
});

test("a channel message that arrives twice gives one entry", async () => {
  const id = await running();
  const subscriber = new FakeSubscriber();
  const events = read(id, { after: 2 }, subscriber);
  const first = events.next();
  await append(id, "a");
  const publish = () => subscriber.publish(eventChannel(id), '3\ntokens\n{"ids":[1],"text":"a"}');
  publish();
  publish();
  expect((await first).value?.seq).toBe(3);
  const second = events.next();
  publish();
  await end(id);
  subscriber.publish(eventChannel(id), `4\nsucceeded\n${JSON.stringify(success)}`);
  expect((await second).value?.seq).toBe(4);
});

test("without channel messages the log is polled, and each poll without an entry calls onIdle", async () => {
  const id = await running();
  const onIdle = vi.fn<() => void>();
  const events = read(id, { after: 2, pollMs: 20, onIdle }, new FakeSubscriber());
  const first = events.next();
  await expect.poll(() => onIdle.mock.calls.length).toBeGreaterThan(2);
  await append(id, "a");
  expect((await first).value?.seq).toBe(3);
});

test("an aborted reader ends without an error and unsubscribes", async () => {
  const id = await running();
  const { signal, abort } = abortable();
  const events = read(id, { after: 2, signal });
  const next = events.next();
  await expect.poll(() => subscribers(id)).toBe(1);
  abort();
  expect((await next).done).toBe(true);
  await expect.poll(() => subscribers(id)).toBe(0);
});

test("a reader ends when its job is deleted", async () => {
  const id = await running();
  const events = read(id, { after: 2, pollMs: 20 });
  const next = events.next();
  await redis.del(jobKey(id), logKey(id));
  expect((await next).done).toBe(true);
});

test("a reader whose log cannot be read gets the error, and still unsubscribes", async () => {
  const id = await running();
  const subscriber = new FakeSubscriber();
  const broken = storeWithoutLog();
  const { signal } = new AbortController();
  const events = logsOf(subscriber, POLL_MS, broken).job(id, { after: 0, signal });
  await expect(events.next()).rejects.toThrow("Connection is closed.");
  expect(subscriber.subscribed).toEqual([]);
  expect(subscriber.listenerCount("message")).toBe(0);
});

test("waiting for a job's end reads no tokens, and ends with the job", async () => {
  const id = await running();
  const subscriber = newReader();
  const onEnd = vi.fn<() => void>();
  const { signal } = new AbortController();
  const wait = logsOf(subscriber, POLL_MS, storeWithoutLog()).jobEnd(id, { signal }).then(onEnd);
  await expect.poll(() => subscribers(id)).toBe(1);
  for (const text of "abc") await append(id, text);
  expect(onEnd).not.toHaveBeenCalled();
  await end(id);
  await wait;
  await expect.poll(() => subscribers(id)).toBe(0);
});

test("waiting for the end of an ended job returns at once", async () => {
  const id = await running();
  await end(id);
  const { signal } = new AbortController();
  await expect(logsOf(newReader()).jobEnd(id, { signal })).resolves.toBeUndefined();
});

test("a poll finds the end of a job whose last channel message was lost", async () => {
  const id = await running();
  const { signal } = new AbortController();
  const wait = logsOf(new FakeSubscriber(), 20).jobEnd(id, { signal });
  await end(id);
  await expect(wait).resolves.toBeUndefined();
});

test("waiting for a job's end stops when the job is deleted, or on abort", async () => {
  const [deleted, aborted] = [await running(), await running()];
  const { signal, abort } = abortable();
  const waits = [deleted, aborted].map((id) => logsOf(newReader(), 20).jobEnd(id, { signal }));
  await redis.del(jobKey(deleted), logKey(deleted));
  await expect(waits[0]).resolves.toBeUndefined();
  abort();
  await expect(waits[1]).resolves.toBeUndefined();
});

test("waiting for a job's end stops at once when the job is deleted while it runs", async () => {
  const id = await running();
  const { signal } = new AbortController();
  const wait = logsOf(newReader()).jobEnd(id, { signal });
  await expect.poll(() => subscribers(id)).toBe(1);
  await store.delete(id);
  await expect(wait).resolves.toBeUndefined();
});

/** A store that can read records, but fails to read logs. */
function storeWithoutLog(): JobStore {
  return Object.assign(Object.create(store) as JobStore, {
    record: (id: string) => store.record(id),
    entries: () => Promise.reject(new Error("Connection is closed.")),
  });
}

function abortable() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

async function subscribers(id: string): Promise<number> {
  const [, count] = (await redis.pubsub("NUMSUB", eventChannel(id))) as [string, number];
  return count;
}

test("a reader of an inbox gets each message at once, and ends on abort", async () => {
  const tenant = newId("tenant");
  await inbox.append(tenant, testMessage("ep_a"));
  const stop = new AbortController();
  const messages = logsOf(newReader()).inbox(tenant, { after: 0, signal: stop.signal });
  expect((await messages.next()).value).toMatchObject({ seq: 1 });
  for (let seq = 2; seq < 5; seq++) {
    const next = messages.next();
    await inbox.append(tenant, testMessage("ep_a"));
    expect((await next).value).toMatchObject({ seq });
  }
  const last = messages.next();
  stop.abort();
  expect(await last).toMatchObject({ done: true });
});
