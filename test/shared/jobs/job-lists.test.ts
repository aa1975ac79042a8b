/** Lists of jobs: their pages while jobs leave, and how much one page costs. */
import { Redis } from "ioredis";
import { afterAll, beforeEach, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { listJobs, listOrderKeys } from "../../../shared/jobs/job-list-script.ts";
import { JobLists } from "../../../shared/jobs/job-lists.ts";
import { phaseOf, timingsOf } from "../../../shared/jobs/phase.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { JOB_INDEX_PREFIX, jobKey } from "../../../shared/redis/keys.ts";
import { claimJob } from "../../support/claim.ts";
import { newJob } from "../../support/generation.ts";

const server = await startRedis();
const redis = new Redis(server.url);
const store = new JobStore(redis, 3_600_000);
/** Jobs that this one ends expire at once. */
const expiring = new JobStore(redis, 1);
const lists = new JobLists(redis);
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

test.for([
  ["is deleted", (id: string) => store.delete(id)],
  [
    "expires",
    async (id: string) => {
      await expiring.cancel(id);
      while ((await lists.removeExpired(1)) === 0);
    },
  ],
  [
    "is lost, and leaves with the list that looks at it",
    async (id: string) => {
      await redis.del(jobKey(id));
      await lists.ids("acme", {}, { limit: 10, isDescending: false, after: null });
    },
  ],
] as const)("a page goes on behind a job that %s", async ([, remove]) => {
  for (const id of ["a", "b", "c"]) await store.submit(newJob({ id, tenant: "acme" }));
  const place = await lists.placeOf("acme", "b");
  await remove("b");
  const after = await lists.placeOf("acme", "b");
  expect(after).toEqual(place);
  const page = { limit: 10, isDescending: false, after };
  expect((await lists.ids("acme", {}, page)).ids).toEqual(["c"]);
  expect(await lists.placeOf("other", "b")).toBeNull();
});

test("a page leaves out a job in a form of a newer release", async () => {
  for (const id of ["a", "b"]) await store.submit(newJob({ id, tenant: "acme" }));
  await redis.hset(jobKey("a"), "state", "paused");
  await expect(lists.read(["a", "b"])).rejects.toThrow("Expected");
  await redis.hset(jobKey("a"), "version", "9");
  expect((await lists.read(["a", "b"])).map(({ id }) => id)).toEqual(["b"]);
});

test("one call looks jobs up a limited number of times, however many filters there are", async () => {
  const facets = Array.from({ length: 17 }, (_, i) => `facet-${i}`);
  const members = Array.from({ length: 2_500 }, (_, i) => [i, `job-${i}`]).flat();
  // The first is the smallest. Its jobs are in all others but the last.
  for (const [i, facet] of facets.entries()) {
    const own = i === 16 ? members.flatMap((id, j) => (j % 2 === 1 ? `other-${id}` : id)) : members;
    await redis.zadd(`${JOB_INDEX_PREFIX}acme:${facet}`, ...own);
    if (i > 0) await redis.zadd(`${JOB_INDEX_PREFIX}acme:${facet}`, 9e9, "last");
  }
  const order = { tenant: "acme", facets, without: [], isDescending: false, countMax: 1 };
  const [atMs, id, hasMore] = (await listJobs(redis, listOrderKeys(order), [
    JSON.stringify(order),
  ])) as [string, string, number];
  expect(hasMore).toBe(1);
  expect(id).toBe(`job-${atMs}`);
  // Each job is looked up in 16 sets.
  expect(Number(atMs)).toBeLessThan(2_000 / 16);
});

test("tokens of a prompt are not the first token of the output, nor of its speed", async () => {
  const { id } = newJob();
  await store.submit(newJob({ id, tenant: "acme" }));
  const { attempt } = await claimJob(redis, id);
  await store.recordPrefill(id, attempt, 2);
  const token = { id: 1, token: "a", logprob: null, rank: null, top: [] };
  const prompt = { ids: [], text: "", prompt_logprobs: [token, token] };
  await store.appendTokens(id, attempt, 0, prompt);
  const read = async () => (await lists.read([id]))[0]!;
  expect([phaseOf(await read()), timingsOf(await read()).first_token_at]).toEqual([
    "prefill",
    null,
  ]);
  await store.appendTokens(id, attempt, 2, { ids: [1], text: "a" });
  expect(phaseOf(await read())).toBe("decode");
  expect(await read()).toMatchObject({ tokens: 3, decodeTokens: 3 });
});
