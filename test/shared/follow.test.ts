/** Readers: late, early, twice, slow, cut off. Each gets every event once and in order. */
import { EventEmitter } from "node:events";
import { Redis } from "ioredis";
import { afterAll, expect, inject, test, vi } from "vitest";
import { newId } from "../../shared/api-key.ts";
import type { JobEvent, Outcome } from "../../shared/contract.ts";
import { follow, followInbox, type BellClient, type FollowOptions } from "../../shared/follow.ts";
import type { ValidGeneration } from "../../shared/job.ts";
import { InboxStore } from "../../shared/inbox-store.ts";
import { JobStore } from "../../shared/job-store.ts";
import { testMessage } from "../../shared/webhook.ts";
import { bellChannel, jobKey, logKey } from "../../shared/redis-keys.ts";

const url = inject("redisUrl");
const redis = new Redis(url);
const store = new JobStore(redis, 60_000);
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

/** A job that a worker has taken up: two events. */
async function running(): Promise<string> {
  const id = newId("job");
  await store.submit({
    id,
    tenant: "acme",
    generation: {} as ValidGeneration,
    asked: {},
    webhookUrl: null,
    metadata: {},
    createdAtMs: 0,
    deadlineMs: Date.now() + 1_000_000,
  });
  await store.claim(id, 3);
  return id;
}

const said = new Map<string, number>();
function say(id: string, text: string) {
  const at = said.get(id) ?? 0;
  said.set(id, at + 1);
  return store.appendTokens(id, 1, at, { ids: [1], text });
}
const end = (id: string) => store.finish(id, 1, "succeeded", "", success);

/** A reader as the edge has it: one connection that both listens and reads. */
function newReader(): Redis {
  const reader = new Redis(url);
  readers.push(reader);
  return reader;
}

/** Longer than any test takes unless a test says otherwise, so that what arrives arrives by the bell. */
const POLL_MS = 60_000;

function read(id: string, options: Partial<FollowOptions> = {}, bell: BellClient = newReader()) {
  const { signal } = new AbortController();
  return follow(bell, store, id, { after: 0, signal, pollMs: POLL_MS, ...options });
}

const seqsOf = (events: readonly JobEvent[]) => events.map(({ seq }) => seq);
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("a reader that comes after the end gets the whole log", async () => {
  const id = await running();
  await say(id, "a");
  await end(id);
  expect(seqsOf(await Array.fromAsync(read(id)))).toEqual([1, 2, 3, 4]);
});

test("a reader that comes in the middle gets what was and then what is", async () => {
  const id = await running();
  const events = read(id);
  expect([(await events.next()).value?.seq, (await events.next()).value?.seq]).toEqual([1, 2]);
  const third = events.next();
  await say(id, "a");
  expect((await third).value).toEqual({ seq: 3, type: "tokens", ids: [1], text: "a" });
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual([4]);
});

test("a reader goes on after its cursor", async () => {
  const id = await running();
  await say(id, "a");
  await end(id);
  expect(seqsOf(await Array.fromAsync(read(id, { after: 3 })))).toEqual([4]);
});

test("two readers on one job, one leaving early, do not disturb each other", async () => {
  const id = await running();
  const whole = Array.fromAsync(read(id));
  for await (const event of read(id)) if (event.seq === 2) break;
  for (const text of "abc") await say(id, text);
  await end(id);
  expect(seqsOf(await whole)).toEqual(range(1, 6));
});

test("what is said between subscribing and the first read comes once", async () => {
  const id = await running();
  const bell = newReader();
  const subscribe = bell.subscribe.bind(bell) as BellClient["subscribe"];
  vi.spyOn(bell, "subscribe").mockImplementation(async (channel) => {
    await subscribe(String(channel));
    await say(id, "between");
  });
  const events = read(id, {}, bell);
  for (const seq of [1, 2, 3]) expect((await events.next()).value?.seq).toBe(seq);
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual([4]);
});

test("a burst larger than a reader may have waiting is filled from the log", async () => {
  const id = await running();
  const events = read(id);
  await events.next();
  // The reader is busy with the first event while all this is said.
  const texts = Array.from({ length: 1_500 }, (_, i) => String(i));
  await Promise.all(texts.map((text) => say(id, text)));
  await end(id);
  expect(seqsOf(await Array.fromAsync(events))).toEqual(range(2, 1_503));
});

test("a bell that is lost leaves a gap that the next one reveals and the log fills", async () => {
  const id = await running();
  const bell = new FakeBell();
  const events = read(id, { after: 2 }, bell);
  const first = events.next();
  await say(id, "a");
  await say(id, "b");
  bell.ring(bellChannel(id), '4\ntokens\n{"ids":[1],"text":"b"}');
  expect((await first).value).toMatchObject({ seq: 3, text: "a" });
  expect((await events.next()).value).toMatchObject({ seq: 4, text: "b" });
});

test("a bell that rings twice is heard once", async () => {
  const id = await running();
  const bell = new FakeBell();
  const events = read(id, { after: 2 }, bell);
  const first = events.next();
  await say(id, "a");
  const ring = () => bell.ring(bellChannel(id), '3\ntokens\n{"ids":[1],"text":"a"}');
  ring();
  ring();
  expect((await first).value?.seq).toBe(3);
  const second = events.next();
  ring();
  await end(id);
  bell.ring(bellChannel(id), `4\nsucceeded\n${JSON.stringify(success)}`);
  expect((await second).value?.seq).toBe(4);
});

test("without any bell the log is read now and then, and the reader told that nothing happened", async () => {
  const id = await running();
  const onIdle = vi.fn<() => void>();
  const events = read(id, { after: 2, pollMs: 20, onIdle }, new FakeBell());
  const first = events.next();
  await expect.poll(() => onIdle.mock.calls.length).toBeGreaterThan(2);
  await say(id, "a");
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

test("a reader of a job that is deleted ends", async () => {
  const id = await running();
  const events = read(id, { after: 2, pollMs: 20 });
  const next = events.next();
  await redis.del(jobKey(id), logKey(id));
  expect((await next).done).toBe(true);
});

test("a reader whose log cannot be read gets the error, and still unsubscribes", async () => {
  const id = await running();
  const bell = new FakeBell();
  const broken = Object.assign(Object.create(store) as JobStore, {
    log: () => Promise.reject(new Error("Connection is closed.")),
  });
  const { signal } = new AbortController();
  const events = follow(bell, broken, id, { after: 0, signal, pollMs: POLL_MS });
  await expect(events.next()).rejects.toThrow("Connection is closed.");
  expect(bell.subscribed).toEqual([]);
  expect(bell.listenerCount("message")).toBe(0);
});

/** A bell that rings only when told to. */
class FakeBell extends EventEmitter implements BellClient {
  subscribed: string[] = [];

  async subscribe(channel: string): Promise<void> {
    this.subscribed.push(channel);
  }

  async unsubscribe(channel: string): Promise<void> {
    this.subscribed = this.subscribed.filter((name) => name !== channel);
  }

  ring(channel: string, message: string): void {
    this.emit("message", channel, message);
  }
}

function abortable() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

async function subscribers(id: string): Promise<number> {
  const [, count] = (await redis.pubsub("NUMSUB", bellChannel(id))) as [string, number];
  return count;
}

test("a reader of an inbox hears of each message at once, and ends when it is told to", async () => {
  const inbox = new InboxStore(redis);
  const tenant = newId("tenant");
  await inbox.append(tenant, testMessage("ep_a"));
  const stop = new AbortController();
  const options = { after: 0, signal: stop.signal, pollMs: POLL_MS };
  const messages = followInbox(newReader(), inbox, tenant, options);
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
