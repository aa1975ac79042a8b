/** Reports of the use, and what a key learns about itself. */
import { expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { UsageReport } from "../../../shared/api/usage.ts";
import { USAGE_PREFIX } from "../../../shared/redis/keys.ts";
import { DAY_MS } from "../../../shared/usage/usage-lua.ts";
import { card, claim, errorOf, newTenant, play, redis, success, usage } from "../harness.ts";
import type { Client } from "../harness.ts";

const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10);
const today = dayOf(Date.now());

const report = async (client: Client, query = ""): Promise<UsageReport> =>
  (await client.get(`/v1/usage${query}`)).json();

async function playJob(client: Client) {
  const { id } = await client.submit();
  await play(id, ["Hello"], {
    ...success,
    usage: {
      ...usage,
      prompt_tokens_details: { cached_tokens: 1 },
      speculation: { drafted_tokens: 4, accepted_tokens: 1 },
    },
  });
}

const SUMS = {
  jobs: 1,
  succeeded: 1,
  failed: 0,
  cancelled: 0,
  expired: 0,
  prompt_tokens: 3,
  cached_tokens: 1,
  completion_tokens: 2,
  base_calls: 1,
  seconds: expect.any(Number),
};

test("a report has the sums of each day, key and model; without the scope admin it has those of the own key", async () => {
  const admin = await newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });
  const other = await newTenant({}, admin.tenant);
  await playJob(admin);
  await playJob(other);
  const cancelled = await other.submit();
  await other.post(`/v1/jobs/${cancelled.id}/cancel`);
  const row = (key: string, sums: object = {}) => ({
    day: null,
    key,
    model: card.id,
    ...SUMS,
    ...sums,
  });
  const rows = [row(admin.keyId), row(other.keyId, { jobs: 2, cancelled: 1 })];
  const all = await report(admin, "?group_by=key,model");
  expect(all).toMatchObject({ object: "usage", to: today });
  expect(all.data).toEqual(rows.toSorted((a, b) => (a.key < b.key ? -1 : 1)));
  expect(all.total).toMatchObject({ jobs: 3, prompt_tokens: 6, completion_tokens: 4 });
  expect((await report(admin)).data).toEqual([
    { day: today, key: null, model: null, ...all.total },
  ]);
  expect((await report(other, "?group_by=key,model")).data).toEqual([rows[1]]);
  expect((await report(admin, `?group_by=key,model&key=${other.keyId}`)).data).toEqual([rows[1]]);
  expect((await report(admin, "?model=none")).data).toEqual([]);
  const refused = await other.get(`/v1/usage?key=${admin.keyId}`);
  expect(await errorOf(refused)).toMatchObject({ status: 403, param: "key" });
});

test("deleting a running job does not make it free", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await claim(id);
  await client.send(`/v1/jobs/${id}`, "DELETE");
  expect((await report(client)).total).toMatchObject({ jobs: 1, cancelled: 1 });
});

test("keys and models beyond a day's room count together, and reports without them say so", async () => {
  const client = await newTenant();
  const key = `${USAGE_PREFIX}${client.tenant}:${Math.floor(Date.now() / DAY_MS)}`;
  for (let i = 0; i < LIMITS.usageEntriesMax; i++)
    await redis.hset(key, `key_${i}\ndemo`, "[1,0,0,0,1,0,1,1,1]");
  await playJob(client);
  await playJob(client);
  expect(await redis.hlen(key)).toBe(LIMITS.usageEntriesMax + 1);
  const admin = await newTenant({ scopes: ["admin"] }, client.tenant);
  const { data, total, incomplete } = await report(admin, "?group_by=key");
  expect(data.find(({ key }) => key === "(other)")).toMatchObject({ jobs: 2, prompt_tokens: 6 });
  expect(incomplete).toBe(true);
  expect(await report(client)).toMatchObject({ total: { jobs: 0 }, incomplete: true });
  expect(await report(await newTenant())).toMatchObject({ incomplete: false });
  expect(total.jobs).toBe(LIMITS.usageEntriesMax + 2);
});

test("records of use expire after the days for which they can be read", async () => {
  const client = await newTenant();
  await playJob(client);
  const day = Math.floor(Date.now() / DAY_MS);
  const endMs = await redis.pexpiretime(`${USAGE_PREFIX}${client.tenant}:${day}`);
  expect(endMs).toBe((day + LIMITS.usageDays) * DAY_MS);
});

test.for([
  ["from=2026-13-01", "from"],
  ["from=2026-02-31&to=2026-03-05", "from"],
  ["from=2026-01-02&to=2026-01-01", "from"],
  ["from=2026-01-01&to=2026-12-01", "from"],
  ["group_by=day,tenant", "group_by"],
  ["to=today", "to"],
])("%s is refused with the name of the parameter", async ([query, param]) => {
  const client = await newTenant();
  const error = await errorOf(await client.get(`/v1/usage?${query}`));
  expect(error).toMatchObject({ status: 400, code: "invalid_request" });
  expect(error.param).toContain(param);
});

test("a key of any scope reads its limits, what is left of them, and its use of today", async () => {
  const outer = await newTenant({
    scopes: ["jobs:write", "admin"],
    limits: { requests_per_minute: 10, concurrent_jobs: 2 },
  });
  const limits = { requests_per_minute: 8, tokens_per_minute: 1_000, concurrent_jobs: 2 };
  const made = await outer.post("/v1/keys", { name: "inner", scopes: ["jobs:write"], limits });
  const { id, key } = await made.json<{ id: string; key: string }>();
  const inner = outer.withKey(key, id);
  await outer.submit({ max_tokens: 4 });
  await inner.submit({ max_tokens: 4 });
  const me = await inner.get("/v1/keys/me");
  expect(me.status).toBe(200);
  expect(await me.json()).toMatchObject({
    id,
    name: "inner",
    tenant: outer.tenant,
    scopes: ["jobs:write"],
    limits,
    within: [outer.keyId],
    remaining: {
      requests: { limit: 8, remaining: 7 },
      tokens: { limit: 1_000, remaining: expect.any(Number) },
      jobs: { limit: 2, remaining: 0 },
    },
    usage_today: { jobs: 0 },
  });
  const unlimited = await newTenant({ scopes: ["admin"] });
  expect(await (await unlimited.get("/v1/keys/me")).json()).toMatchObject({
    remaining: { requests: null, tokens: null, jobs: null },
  });
});
