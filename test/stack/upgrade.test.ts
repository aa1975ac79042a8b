/** An upgrade from the release before: its waiting jobs run, its batch ends, and its key works. */
import { expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { jobKey } from "../../shared/redis/keys.ts";
import { JOB_VERSION } from "../../shared/redis/version.ts";
import { newJob } from "../support/generation.ts";
import { PREVIOUS_KEY_ID, restorePreviousRelease } from "../support/releases/previous.ts";
import { DEADLINE_MS, useStack } from "./stack.ts";

const stack = useStack(null);

test("what the release before left is taken up, and a job of a newer release is left alone", async () => {
  const { redis, edge, client, key } = stack;
  await restorePreviousRelease(redis);
  const newer = newJob({ tenant: key.tenant });
  await new JobStore(redis, 60_000).submit(newer);
  await redis.hset(jobKey(newer.id), "version", JOB_VERSION + 1);
  await stack.startWorker();

  const secret = await new KeyRegistry(redis).rotate(PREVIOUS_KEY_ID, 0);
  const acme = new JobClient(edge.url, secret!);
  const state = async (id: string) => (await acme.read(id)).state;
  for (const id of ["job_queued", "job_choices", "job_choices-1", "job_format"]) {
    await expect.poll(() => state(id), { timeout: DEADLINE_MS }).toBe("succeeded");
  }
  expect((await acme.read("job_format")).output.text).toMatch(/^[0-9]{3}$/);
  expect((await acme.read("job_ended")).output.text).toBe("Paris");
  const batch = async () => {
    const headers = { authorization: `Bearer ${secret}` };
    return (await fetch(`${edge.url}/v1/batches/batch_open`, { headers })).json();
  };
  await expect
    .poll(batch, { timeout: DEADLINE_MS })
    .toMatchObject({ status: "completed", request_counts: { total: 2, completed: 2 } });

  expect(await redis.hmget(jobKey(newer.id), "state", "attempt")).toEqual(["queued", "0"]);
  await expect(client.read(newer.id)).rejects.toThrow("answered 503");
});
