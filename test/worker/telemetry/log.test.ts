import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { logKey } from "../../../shared/redis/keys.ts";
import { createLog } from "../../../worker/telemetry/log.ts";
import { newJob } from "../../support/generation.ts";
import { claimJob } from "../../support/claim.ts";

const lines: string[] = [];
const log = createLog("trace", { write: (line: string) => lines.push(line) });

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});

afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

test("a text that Redis refused to write is not in the log", async () => {
  const store = new JobStore(redis, 60_000);
  const job = newJob();
  await store.submit(job);
  await claimJob(redis, job.id);
  await redis.set(logKey(job.id), "not a stream");
  const tokens = { ids: [1], text: "zanzibar" };
  const error: unknown = await store.appendTokens(job.id, 1, 0, tokens).catch((e: unknown) => e);
  // The error itself contains the text.
  expect(JSON.stringify(error)).toContain("zanzibar");
  log.error({ err: error }, "Job attempt failed");
  log.error({ err: new Error("outer", { cause: error }) }, "Job attempt failed");
  expect(lines).toHaveLength(2);
  expect(lines.join()).toContain("WRONGTYPE");
  expect(lines.join()).not.toContain("zanzibar");
});
