/** The queue of requests for tokenizers. */
import { Redis } from "ioredis";
import { afterAll, beforeEach, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import {
  promptCheckQueueKey,
  tokenizerPendingKey,
  tokenizerQueueKey,
} from "../../../shared/redis/keys.ts";
import {
  endPromptCheck,
  PROMPT_CHECKS_MAX,
  submitPromptChecks,
} from "../../../shared/workers/prompt-checks.ts";
import {
  answerTokenizerRequest,
  submitTokenizerRequest,
  takeTokenizerRequest,
  TOKENIZER_PENDING_MAX,
  type TokenizerRequest,
} from "../../../shared/workers/tokenizer-requests.ts";
import { newJob } from "../../support/generation.ts";

const server = await startRedis();
const redis = new Redis(server.url);
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(() => redis.flushall());

const request = (id: string, tenant = "acme") =>
  ({ id, tenant, model: "demo", question: { kind: "info" } }) as const;

/** The next request of the model; not a check of a prompt. */
const take = async (model: string) =>
  (await takeTokenizerRequest(redis, model)) as TokenizerRequest | null;

test("requests are taken in their order, once, and an answer makes room for another one and can be read", async () => {
  for (let i = 0; i < TOKENIZER_PENDING_MAX; i++) {
    expect(await submitTokenizerRequest(redis, request(`tok_${i}`), [])).toEqual({
      status: "accepted",
    });
  }
  expect(await submitTokenizerRequest(redis, request("more"), [])).toEqual({ status: "pending" });
  expect(await submitTokenizerRequest(redis, request("other", "b"), [])).toMatchObject({
    status: "accepted",
  });
  const first = await take("demo");
  expect(first).toEqual(request("tok_0"));
  expect((await take("demo"))?.id).toBe("tok_1");
  expect(await take("another")).toBeNull();
  await answerTokenizerRequest(redis, first!, { kind: "decode", text: "é" });
  const [entry] = await new JobStore(redis, 1).entries("tok_0");
  expect(JSON.parse(entry!.data)).toEqual({ kind: "decode", text: "é" });
  expect(await submitTokenizerRequest(redis, request("more"), [])).toMatchObject({
    status: "accepted",
  });
});

test("a request for which nobody waits any more is dropped, and does not count", async () => {
  await submitTokenizerRequest(redis, request("old"), []);
  await submitTokenizerRequest(redis, request("new"), []);
  // Plays that the first one was sent earlier.
  const [old] = await redis.lrange(tokenizerQueueKey("demo"), 0, 0);
  await redis.lset(tokenizerQueueKey("demo"), 0, old!.replace(/^\d+/, "1"));
  expect((await take("demo"))?.id).toBe("new");
  await redis.zadd(tokenizerPendingKey("acme"), 1, "old");
  for (let i = 1; i < TOKENIZER_PENDING_MAX; i++) {
    expect(await submitTokenizerRequest(redis, request(`${i}`), [])).toMatchObject({
      status: "accepted",
    });
  }
  for (const key of await redis.keys("*tokenizer*")) {
    expect(await redis.pttl(key)).toBeGreaterThan(0);
  }
});

test("a request counts towards the limit of requests of its API key and of the keys that it is within", async () => {
  const pools = [
    { id: "own", requestsPerMinute: 100 },
    { id: "maker", requestsPerMinute: 2 },
  ];
  expect(await submitTokenizerRequest(redis, request("a"), pools)).toMatchObject({
    status: "accepted",
  });
  expect(await submitTokenizerRequest(redis, request("b"), pools)).toMatchObject({
    status: "accepted",
  });
  const refused = await submitTokenizerRequest(redis, request("c"), pools);
  expect(refused).toMatchObject({ status: "limited", pool: 1 });
  expect("waitMs" in refused && refused.waitMs).toBeGreaterThan(20_000);
  expect(await redis.llen(tokenizerQueueKey("demo"))).toBe(2);
});

test("checks of prompts come after requests, only for jobs that wait, and a bounded number for each tenant", async () => {
  const store = new JobStore(redis, 60_000);
  const jobs = Array.from({ length: PROMPT_CHECKS_MAX + 1 }, () => newJob());
  for (const job of jobs) await store.submit(job);
  const [ended, first, ...others] = jobs.map(({ id }) => id) as [string, string, ...string[]];
  await submitPromptChecks(redis, "demo", "acme", [ended, first, ...others]);
  await submitTokenizerRequest(redis, request("tok_1"), []);
  await store.cancel(ended);
  expect(await takeTokenizerRequest(redis, "demo")).toMatchObject({ id: "tok_1" });
  const check = await takeTokenizerRequest(redis, "demo");
  expect(check).toEqual({ job: first, tenant: "acme" });
  const left = () => redis.llen(promptCheckQueueKey("demo"));
  // Two are taken, and the last one had no room.
  expect(await left()).toBe(PROMPT_CHECKS_MAX - 2);
  await submitPromptChecks(redis, "demo", "acme", [others.at(-1)!]);
  expect(await left()).toBe(PROMPT_CHECKS_MAX - 2);
  await endPromptCheck(redis, { job: first, tenant: "acme" });
  await submitPromptChecks(redis, "demo", "acme", [others.at(-1)!]);
  await submitPromptChecks(redis, "demo", "other", [others.at(-1)!]);
  expect(await left()).toBe(PROMPT_CHECKS_MAX);
  for (const key of await redis.keys("*prompt-check*")) {
    expect(await redis.pttl(key)).toBeGreaterThan(0);
  }
});
