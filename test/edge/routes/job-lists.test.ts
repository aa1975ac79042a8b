/** Lists of jobs: filters, pages, and what other tenants see. */
import { expect, test } from "vitest";
import type { JobSummary } from "../../../shared/api/job-lists.ts";
import { jobKey } from "../../../shared/redis/keys.ts";
import { claim, errorOf, newTenant, play, redis, store, success, type Client } from "../harness.ts";

interface Page {
  readonly data: JobSummary[];
  readonly first_id: string | null;
  readonly last_id: string | null;
  readonly has_more: boolean;
}

const list = async (client: Client, query = ""): Promise<Page> =>
  (await client.get(`/v1/jobs${query}`)).json();
const ids = async (client: Client, query = "") =>
  (await list(client, query)).data.map(({ id }) => id);

/** Jobs in their order: those of one millisecond have the order of their ids. */
async function submitMany(client: Client, count: number, fields: object = {}): Promise<string[]> {
  const jobs = [];
  for (let i = 0; i < count; i++) jobs.push(await client.submit(fields));
  return jobs
    .toSorted((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1))
    .map(({ id }) => id);
}

test("jobs are listed newest first or oldest first, each once over all pages, and only to their tenant", async () => {
  const client = await newTenant();
  const submitted = await submitMany(client, 7);
  expect(await ids(client)).toEqual(submitted.toReversed());
  expect(await ids(client, "?order=asc")).toEqual(submitted);
  const first = await list(client, "?limit=3");
  expect(first).toMatchObject({
    first_id: submitted[6],
    last_id: submitted[4],
    has_more: true,
  });
  const second = await list(client, `?limit=3&after=${first.last_id}`);
  expect(second.data.map(({ id }) => id)).toEqual([submitted[3], submitted[2], submitted[1]]);
  const third = await list(client, `?limit=3&after=${second.last_id!.replace("job_", "resp_")}`);
  expect(third).toMatchObject({ data: [{ id: submitted[0] }], has_more: false });
  expect(await list(await newTenant())).toMatchObject({ data: [], last_id: null, has_more: false });
});

test("a list shows of each job what its owner would read, without the output", async () => {
  const client = await newTenant();
  const { id } = await client.submit({ metadata: { run: "7" } });
  await play(id, ["Hello"]);
  const { output, ...job } = await client.job(id);
  const left = ["queue", "steering", "seed", "reproducible", "webhook", "waiting_for"];
  const shown = Object.entries(job).filter(([name]) => !left.includes(name));
  expect((await list(client)).data).toEqual([
    { ...Object.fromEntries(shown), finish_reason: output.finish_reason },
  ]);
});

test("filters by state follow each job through its states", async () => {
  const client = await newTenant();
  const [first, second, third] = (await submitMany(client, 3)) as [string, string, string];
  const states = async () => ({
    queued: await ids(client, "?state=queued&order=asc"),
    running: await ids(client, "?state=running"),
    succeeded: await ids(client, "?state=succeeded"),
    cancelled: await ids(client, "?state=cancelled"),
  });
  expect(await states()).toMatchObject({ queued: [first, second, third], running: [] });
  const { attempt } = await claim(second);
  await store.cancel(third);
  const running = { queued: [first], running: [second], succeeded: [], cancelled: [third] };
  expect(await states()).toEqual(running);
  await store.finish(second, attempt, "succeeded", "", success);
  expect(await states()).toEqual({ ...running, running: [], succeeded: [second] });
  await client.send(`/v1/jobs/${second}`, "DELETE");
  expect(await states()).toMatchObject({ succeeded: [] });
  expect(await ids(client)).toEqual([third, first]);
});

test("filters by model, metadata and time hold together", async () => {
  const client = await newTenant();
  const plain = await client.submit();
  const one = await client.submit({ metadata: { run: "7", "a[b]": "ü & =" } });
  const two = await client.submit({ metadata: { run: "7" } });
  expect(await ids(client, "?metadata[run]=7")).toEqual(
    [one, two]
      .toSorted((a, b) => b.created_at - a.created_at || (a.id < b.id ? 1 : -1))
      .map(({ id }) => id),
  );
  const pair = `metadata[run]=7&${encodeURIComponent("metadata[a[b]]")}=${encodeURIComponent("ü & =")}`;
  expect(await ids(client, `?${pair}`)).toEqual([one.id]);
  expect(await ids(client, `?metadata[run]=8`)).toEqual([]);
  expect(await ids(client, `?model=demo&metadata[run]=7`)).toHaveLength(2);
  expect(await ids(client, `?model=other`)).toEqual([]);
  const before = await ids(client, `?created_before=${plain.created_at}`);
  expect(before).toEqual([]);
  expect(await ids(client, `?created_after=${plain.created_at}`)).toHaveLength(3);
  const later = two.created_at + 0.001;
  expect(await ids(client, `?created_after=${later}`)).toEqual([]);
  expect(await ids(client, `?created_before=${later}&order=asc&limit=1`)).toHaveLength(1);
});

test("a job that has expired is not listed, even before it has left the index", async () => {
  const client = await newTenant();
  const [gone, kept] = (await submitMany(client, 2)) as [string, string];
  await redis.del(jobKey(gone));
  expect(await ids(client)).toEqual([kept]);
  expect(await ids(client, `?after=${gone}&order=asc`)).toEqual([kept]);
});

test("a page of filters that match rarely may be empty, and goes on after the last job that was looked at", async () => {
  const client = await newTenant();
  const { id } = await client.submit({ metadata: { a: "1", b: "1" } });
  // More entries than one request looks at, in each of the sets. They need no jobs, because they do not match.
  const fill = async (name: string, from: number) => {
    const facet = (await redis.hget(jobKey(id), "facets"))!
      .split("\n")
      .filter((part) => part.startsWith("metadata:"))[name === "a" ? 0 : 1]!;
    for (let i = 0; i < 3_000; i += 1_000) {
      const members = Array.from({ length: 1_000 }, (_, k) => [
        from + i + k,
        `job_${name}${i + k}`,
      ]);
      await redis.zadd(`{trimtab}:jobs-by:${client.tenant}:${facet}`, ...members.flat());
      await redis.zadd(`{trimtab}:jobs-by:${client.tenant}:all`, ...members.flat());
    }
  };
  const laterMs = Date.now() + 1_000_000;
  await fill("a", laterMs);
  await fill("b", laterMs);
  const first = await list(client, "?metadata[a]=1&metadata[b]=1");
  expect(first).toMatchObject({ data: [], has_more: true });
  const second = await list(client, `?metadata[a]=1&metadata[b]=1&after=${first.last_id}`);
  expect(second).toMatchObject({ data: [{ id }], has_more: false });
});

test.for([
  ["limit=0", "limit"],
  ["limit=101", "limit"],
  ["order=up", "order"],
  ["state=done", "state"],
  ["created_after=yesterday", "created_after"],
  ["metadata=run", "metadata"],
  [`metadata[${"a".repeat(65)}]=1`, "metadata"],
  ["after=job_other", "after"],
])("%s is refused with the name of the parameter", async ([query, param]) => {
  const client = await newTenant();
  const error = await errorOf(await client.get(`/v1/jobs?${query}`));
  expect(error).toMatchObject({ status: 400, code: "invalid_request" });
  expect(error.param).toContain(param);
});
