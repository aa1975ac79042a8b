/** The phase and the timings of a job, from submission to its end. */
import { Redis } from "ioredis";
import { afterAll, expect, inject, test } from "vitest";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { timingsOf } from "../../../shared/jobs/phase.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { jobKey } from "../../../shared/redis/keys.ts";
import { claimJob } from "../../support/claim.ts";
import { newJob } from "../../support/generation.ts";

const redis = new Redis(inject("redisUrl"));
const store = new JobStore(redis, 60_000);
afterAll(() => redis.disconnect());

const piece = (text: string) => ({ ids: Array.from(text, (c) => c.charCodeAt(0)), text });
const noTimings = {
  loading_at: null,
  prefill_at: null,
  decode_at: null,
  first_token_at: null,
  time_to_first_token: null,
  tokens_per_second: null,
};
const time = expect.any(Number) as number;

test("a job has the phase and the timings of its current attempt; a worker that has lost the job changes neither", async () => {
  const job = newJob();
  await store.submit(job);
  const { id } = job;
  const progress = async () => {
    const { phase, timings } = await readJob((await store.record(id))!, jobSources(redis, store));
    return { phase, ...timings };
  };
  expect(await progress()).toEqual({ phase: "waiting", ...noTimings });
  await claimJob(redis, id);
  expect(await progress()).toEqual({ phase: "loading", ...noTimings, loading_at: time });
  await store.recordPrefill(id, 1, 5);
  expect(await progress()).toMatchObject({ phase: "prefill", prefill_at: time, decode_at: null });
  await store.appendTokens(id, 1, 0, piece("ab"));
  await store.appendTokens(id, 1, 2, piece("c"));
  const { first_token_at, time_to_first_token, ...decode } = await progress();
  const first = { first_token_at, time_to_first_token };
  expect(first).toEqual({ first_token_at: time, time_to_first_token: time });
  expect(decode).toMatchObject({ phase: "decode", decode_at: first_token_at });
  await claimJob(redis, id);
  await store.recordPrefill(id, 1, 9);
  const again = { phase: "loading", ...noTimings, ...first, loading_at: time };
  expect(await progress()).toEqual(again);
  await store.recordPrefill(id, 2, 5);
  await store.appendTokens(id, 2, 3, piece("d"));
  await store.cancel(id);
  const ended = await store.endWithError((await store.record(id))!, "cancelled", null);
  expect(ended).toMatchObject({
    text: "abcd",
    outcome: { usage: { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 } },
  });
  expect(await progress()).toMatchObject({ phase: "ended", ...first, decode_at: time });
});

test("the speed counts the tokens after the attempt's first append", async () => {
  const job = newJob();
  await store.submit(job);
  const times = {
    createdAtMs: 10_000,
    claimedAtMs: 11_000,
    prefillAtMs: 12_000,
    decodeAtMs: 14_000,
    firstTokenAtMs: 14_000,
    lastTokenAtMs: 16_000,
  };
  await redis.hset(jobKey(job.id), { ...times, tokens: 3, decodeTokens: 2 });
  expect(timingsOf((await store.record(job.id))!)).toEqual({
    loading_at: 11,
    prefill_at: 12,
    decode_at: 14,
    first_token_at: 14,
    time_to_first_token: 4,
    tokens_per_second: 0.5,
  });
});
