/** A key's limits with a real worker: every end makes room, and what a job really used is what it took. */
import { expect, test } from "vitest";
import { JobClient, type JobInput } from "../../infra/job-client.ts";
import { LIMITS } from "../../shared/limits.ts";
import { KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "../../shared/redis-keys.ts";
import { allEvents, LONG, Reader, SHORT, useStack } from "./stack.ts";

const stack = useStack();
/** So many that they are all there again at each submission. */
const TOKENS = LIMITS.policyRateMax;

test("jobs that succeed and are cancelled give back their place and the tokens that they did not use", async () => {
  const { id, key } = await stack.keys.create("limited", undefined, {
    scopes: ["jobs:write", "jobs:read"],
    limits: { concurrent_jobs: 1, tokens_per_minute: TOKENS },
  });
  const client = new JobClient(stack.edge.url, key);
  const endOf = async (input: JobInput, meanwhile?: (jobId: string) => Promise<void>) => {
    const job = await client.submit(input);
    await meanwhile?.(job.id);
    await allEvents(client, job.id);
    const { state, usage } = await client.read(job.id);
    const left = Number(await stack.redis.hget(KEY_RATES_PREFIX + id, "tokens"));
    expect(await stack.redis.smembers(KEY_JOBS_PREFIX + id)).toEqual([]);
    expect(usage?.completion_tokens).toBeGreaterThan(0);
    expect(TOKENS - left).toBe(usage?.total_tokens);
    return state;
  };
  const long = { ...LONG, max_tokens: 500 };
  const cancel = async (jobId: string) => {
    await new Reader(client, jobId).hasTokens(5);
    await client.cancel(jobId);
  };
  expect(await endOf(SHORT)).toBe("succeeded");
  expect(await endOf(long, cancel)).toBe("cancelled");
});
