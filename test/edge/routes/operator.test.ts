/** A key with the scope `operator` sees all tenants. */
import { expect, test } from "vitest";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { removeWorker, sendHeartbeat } from "../../../shared/workers/registry.ts";
import { card, claim, errorOf, newTenant, play, redis, usage } from "../harness.ts";

const newOperator = () => newTenant({ scopes: ["operator"] });

test("the use of all tenants, by tenant and model", async () => {
  const [client, other, operator] = [await newTenant(), await newTenant(), await newOperator()];
  for (const each of [client, other]) await play((await each.submit()).id, ["Hi"]);
  const query = `?group_by=tenant,model&tenant=${client.tenant}`;
  const one = await (await operator.get(`/v1/operator/usage${query}`)).json();
  expect(one).toMatchObject({
    object: "usage",
    data: [{ day: null, tenant: client.tenant, model: card.id, jobs: 1, prompt_tokens: 3 }],
    total: { jobs: 1 },
  });
  const all = await operator.get("/v1/operator/usage?group_by=tenant");
  const { data } = await all.json<{ data: { tenant: string }[] }>();
  const tenants = data.map(({ tenant }) => tenant);
  expect(tenants).toEqual(expect.arrayContaining([client.tenant, other.tenant]));
  const tooLong = await operator.get("/v1/operator/usage?from=2026-01-01&to=2026-02-28");
  expect(await errorOf(tooLong)).toMatchObject({ status: 400, param: "from" });
});

test("failures by day and code", async () => {
  const [client, operator] = [await newTenant(), await newOperator()];
  const read = async () => {
    const reply = await operator.get("/v1/operator/failures");
    const { data } = await reply.json<{ data: { code: string; jobs: number }[] }>();
    return data.find(({ code }) => code === "worker_lost")?.jobs ?? 0;
  };
  const before = await read();
  const { id } = await client.submit();
  const error = { code: "worker_lost", message: "Lost" } as const;
  await play(id, [], { finish_reason: null, usage, error });
  // Jobs of other test files may fail meanwhile.
  expect(await read()).toBeGreaterThan(before);
});

test("the queues of all tenants by model, with the age and the start of new jobs, and the live workers", async () => {
  const [client, operator] = [await newTenant(), await newOperator()];
  // A model of its own: other tests count on it that no worker serves theirs.
  const model = { ...card, id: "operated" };
  const throughput = { slots: 4, busy: 4, tokensPerSecond: 10, tokensMean: 10, costShare: 1 };
  const report = {
    version: "0.1.0",
    throughput: { ...throughput, tokensVariation: 1 },
    models: [{ id: model.id, fingerprint: "weights", reproducible: true }],
  };
  await sendHeartbeat(redis, "worker_1", report, [model]);
  const [running, first] = [
    await client.submit({ model: model.id }),
    await client.submit({ model: model.id }),
  ];
  await client.submit({ model: model.id });
  await claim(running.id);
  const queues = await operator.get("/v1/operator/queues");
  type Queues = {
    data: { models: string[]; tenants: { tenant: string }[] }[];
    more_queues: number;
  };
  const { data, more_queues } = await queues.json<Queues>();
  expect(more_queues).toBe(0);
  const queue = data.find(({ models }) => models.join() === model.id)!;
  expect(queue).toMatchObject({ object: "queue", workers: 1, slots: 4, running: 1 });
  const own = queue.tenants.find(({ tenant }) => tenant === client.tenant);
  expect(own).toMatchObject({ batch: false, waiting: 2, eta: expect.anything() });
  const { age } = own as unknown as { age: number };
  expect(age).toBeGreaterThanOrEqual(0);
  expect(age).toBeLessThanOrEqual(Date.now() / 1000 - first.created_at + 1);
  const workers = await (await operator.get("/v1/operator/workers")).json<{ data: object[] }>();
  expect(workers.data).toContainEqual(
    expect.objectContaining({ id: "worker_1", version: "0.1.0", slots: 4, busy: 4 }),
  );
  await removeWorker(redis, "worker_1");
  await redis.hdel(MODELS_KEY, model.id);
});

test("no key gets the scope over HTTP, not even from one that has it", async () => {
  const operator = await newTenant({ scopes: ["admin", "operator"] });
  const refused = await operator.post("/v1/keys", { name: "x", scopes: ["operator"] });
  expect(await errorOf(refused)).toMatchObject({ status: 400, param: "scopes.0" });
  const admin = await newTenant({ scopes: ["admin"] }, operator.tenant);
  const rotated = await admin.post(`/v1/keys/${operator.keyId}/rotate`, {});
  expect(rotated.status).toBe(403);
  expect((await admin.get("/v1/operator/queues")).status).toBe(403);
});
