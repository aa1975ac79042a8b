/** A key's limits with a real worker: every end of a job frees its slot, and only the tokens that it used are counted. */
import { expect, test } from "vitest";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "../../shared/redis/keys.ts";
import { allEvents, LONG_JOB, EventReader, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack();
/** Tokens a minute: so many that the limit is full again at each submission. */
const TOKENS = LIMITS.policyRateMax;

test("succeeded and cancelled jobs free their slot and the tokens that they did not use", async () => {
  const { id, key } = await stack.keys.create("limited", undefined, {
    scopes: ["jobs:write", "jobs:read"],
    limits: { concurrent_jobs: 1, tokens_per_minute: TOKENS },
  });
  const client = new JobClient(stack.edge.url, key);
  const stateAtEnd = async (input: JobInput, meanwhile?: (jobId: string) => Promise<void>) => {
    const job = await client.submit(input);
    await meanwhile?.(job.id);
    await allEvents(client, job.id);
    const { state, usage } = await client.read(job.id);
    const remaining = Number(await stack.redis.hget(KEY_RATES_PREFIX + id, "tokens"));
    expect(await stack.redis.smembers(KEY_JOBS_PREFIX + id)).toEqual([]);
    expect(usage?.completion_tokens).toBeGreaterThan(0);
    expect(TOKENS - remaining).toBe(usage?.total_tokens);
    return state;
  };
  const long = { ...LONG_JOB, max_tokens: 500 };
  const cancel = async (jobId: string) => {
    await new EventReader(client, jobId).hasTokens(5);
    await client.cancel(jobId);
  };
  expect(await stateAtEnd(SHORT_JOB)).toBe("succeeded");
  expect(await stateAtEnd(long, cancel)).toBe("cancelled");
});
