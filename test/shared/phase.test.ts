import { Redis } from "ioredis";
import { afterAll, expect, inject, test, vi } from "vitest";
import { JobStore } from "../../shared/job-store.ts";
import { newJob } from "../support/generation.ts";

const redis = new Redis(inject("redisUrl"));
const store = new JobStore(redis, 60_000);
afterAll(() => redis.disconnect());

const piece = (text: string) => ({ ids: Array.from(text, (c) => c.charCodeAt(0)), text });

test("a job's phases and their times are told, of a lost attempt no longer; a worker that lost it tells nothing", async () => {
  const at = (ms: number) => vi.setSystemTime(10_000 + ms);
  vi.useFakeTimers({ toFake: ["Date"], now: 10_000 });
  const job = newJob({ createdAtMs: Date.now() });
  await store.submit(job);
  const { id } = job;
  const told = async () => {
    const { phase, timings } = await store.view((await store.record(id))!);
    return { phase, ...timings };
  };
  const nothing = {
    loading_at: null,
    prefill_at: null,
    decode_at: null,
    first_token_at: null,
    time_to_first_token: null,
    tokens_per_second: null,
  };
  expect(await told()).toEqual({ phase: "waiting", ...nothing });
  at(1_000);
  await store.claim(id, 3);
  expect(await told()).toEqual({ phase: "loading", ...nothing, loading_at: 11 });
  at(2_000);
  await store.prefilling(id, 1, 5);
  expect(await told()).toMatchObject({ phase: "prefill", prefill_at: 12, decode_at: null });
  at(4_000);
  await store.appendTokens(id, 1, 0, piece("ab"));
  at(6_000);
  await store.appendTokens(id, 1, 2, piece("c"));
  const first = { first_token_at: 14, time_to_first_token: 4 };
  const decode = { phase: "decode", decode_at: 14, tokens_per_second: 0.5 };
  expect(await told()).toMatchObject({ ...first, ...decode });
  at(7_000);
  await store.claim(id, 3);
  await store.prefilling(id, 1, 9);
  expect(await told()).toEqual({ phase: "loading", ...nothing, ...first, loading_at: 17 });
  at(8_000);
  await store.prefilling(id, 2, 5);
  await store.appendTokens(id, 2, 3, piece("d"));
  await store.cancel(id);
  const ended = await store.giveUp((await store.record(id))!, "cancelled", null);
  expect(ended?.outcome).toMatchObject({
    usage: { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 },
  });
  expect(await told()).toMatchObject({ phase: "ended", ...first, decode_at: 18 });
  vi.useRealTimers();
});
