/** The stores of one request. */
import { Redis } from "ioredis";
import { afterAll, expect, inject, test, vi } from "vitest";
import type { LogReader } from "../../../edge/redis/follow.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { newId } from "../../../shared/ids.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { newJob } from "../../support/generation.ts";

const url = inject("redisUrl");
const redis = new Redis(url);
const store = new JobStore(redis, 60_000);
afterAll(() => redis.disconnect());

const sharedLogs: LogReader = {
  job: async function* () {},
  jobEnd: async () => {},
  inbox: async function* () {},
};

/** A queued job. */
async function queuedJob(): Promise<string> {
  const id = newId("job");
  await store.submit(newJob({ id, tenant: "acme" }));
  return id;
}

test("a cancellation that a disconnect started succeeds although the request then waits for its job", async () => {
  const id = await queuedJob();
  const stores = new RequestStores(parseEnv({ REDIS_URL: url }), sharedLogs);
  await stores.readiness.requireWritable();
  // The cancellation must then send its script's text after the server has refused the hash.
  await redis.script("FLUSH");
  const cancellation = stores.jobs.cancel(id);
  await stores.waitForEnd(id, { signal: AbortSignal.abort() });
  await expect(cancellation).resolves.toBe("cancelled");
  stores.close();
});

test("a wait is repeated if the record does not have the end that was seen: a failover has lost it", async () => {
  const id = await queuedJob();
  const jobEnd = vi.fn<LogReader["jobEnd"]>(async () => {
    if (jobEnd.mock.calls.length === 2) await store.cancel(id);
  });
  const stores = new RequestStores(parseEnv({ REDIS_URL: url }), { ...sharedLogs, jobEnd });
  const { signal } = new AbortController();
  expect(await stores.waitForEnd(id, { signal })).toMatchObject({ id, state: "cancelled" });
  expect(jobEnd).toHaveBeenCalledTimes(2);
  stores.close();
});
