import { Redis } from "ioredis";
import { afterAll, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import type { LimitPool } from "../../../shared/jobs/admission.ts";
import { chargeRefusal } from "../../../shared/jobs/refusals.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { KEY_RATES_PREFIX } from "../../../shared/redis/keys.ts";
import { newJob } from "../../support/generation.ts";

const server = await startRedis();
const redis = new Redis(server.url);
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const limits = { requests_per_minute: 2, tokens_per_minute: null, concurrent_jobs: null };
const pool = (id: string): LimitPool => ({ id, limits });

test("refused requests count while Redis is full", async () => {
  await redis.config("SET", "maxmemory", "1");
  try {
    expect(await chargeRefusal(redis, [pool("full")])).toEqual([0]);
    const [waitMs] = await chargeRefusal(redis, [pool("full")]);
    expect(waitMs).toBeGreaterThan(0);
  } finally {
    await redis.config("SET", "maxmemory", "0");
  }
});

test("rates that are not used expire, so that those of a revoked key do not stay", async () => {
  await chargeRefusal(redis, [pool("refused")]);
  const admission = { pools: [pool("submitted")], tokens: [1], idempotency: null };
  await new JobStore(redis, 60_000).submitAll([newJob()], admission);
  for (const id of ["refused", "submitted"]) {
    const ttlMs = await redis.pttl(KEY_RATES_PREFIX + id);
    expect(ttlMs).toBeGreaterThan(60_000);
  }
});
