/** Workers, models and running jobs, as an operator sees and stops them. */
import { expect, test } from "vitest";
import type { Activity } from "../../../shared/api/activity.ts";
import type { OperatorJob, OperatorModel } from "../../../shared/api/operator.ts";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { removeWorker, sendHeartbeat } from "../../../shared/workers/registry.ts";
import { card, claim, errorOf, newTenant, play, redis } from "../harness.ts";

const newOperator = () => newTenant({ scopes: ["operator"] });

const report = {
  version: "0.1.0",
  throughput: {
    slots: 4,
    busy: 1,
    tokensPerSecond: 10,
    tokensMean: 10,
    costShare: 1,
    tokensVariation: 1,
  },
  engine: {
    tokensPerSecond: 12.5,
    acceptance: 0.75,
    cachedShare: null,
    waiting: 0,
    cacheBytes: 10,
    cacheBytesMax: 100,
    prefixBytes: 5,
    prefixBytesMax: 50,
  },
};

/** Plays a worker that serves one model of its own: other tests count on it that no worker serves theirs. */
async function serve(worker: string, id: string, away?: string) {
  const served = { id, fingerprint: "weights", reproducible: true, isRemote: true };
  const models = [{ ...served, ...(away !== undefined && { away }) }];
  await sendHeartbeat(redis, worker, { ...report, models }, [{ ...card, id }]);
  return async () => {
    await removeWorker(redis, worker);
    await redis.hdel(MODELS_KEY, id);
  };
}

test("a worker is listed with its engine and its bases; a drained one takes part in no estimate any more", async () => {
  const [client, operator] = [await newTenant(), await newOperator()];
  const end = await serve("worker_d", "org/drained", "The base model big: no answer");
  const { data } = await (await operator.get("/v1/operator/workers")).json<{ data: object[] }>();
  expect(data.find((worker) => "id" in worker && worker.id === "worker_d")).toMatchObject({
    slots: 4,
    busy: 1,
    draining: false,
    engine: { tokens_per_second: 12.5, acceptance: 0.75, kv_cache_bytes_max: 100 },
    models: [{ id: "org/drained", remote_base: true, problem: "The base model big: no answer" }],
  });
  await serve("worker_d", "org/drained");
  const job = await client.submit({ model: "org/drained" });
  expect(job.queue).toMatchObject({ reason: null });
  const drained = await operator.post("/v1/operator/workers/worker_d/drain");
  expect(await drained.json()).toMatchObject({ id: "worker_d", draining: true });
  expect((await client.job(job.id)).queue).toMatchObject({ reason: "no_worker", eta: null });
  expect(await (await client.get("/v1/models/org/drained")).json()).toMatchObject({
    status: "no_worker",
    workers: 0,
  });
  const unknown = await operator.post("/v1/operator/workers/gone/drain");
  expect(await errorOf(unknown)).toMatchObject({ status: 404, code: "not_found" });
  await end();
});

test("the jobs of a paused model wait and say so, until it is resumed", async () => {
  const [client, operator] = [await newTenant(), await newOperator()];
  const end = await serve("worker_p", "org/paused");
  const set = async (action: "pause" | "resume") =>
    (await operator.post(`/v1/operator/models/org/paused/${action}`)).json<OperatorModel>();
  const paused = await set("pause");
  expect(paused).toMatchObject({ id: "org/paused", status: "paused", workers: 1, slots: 4 });
  expect(Math.abs(paused.paused_at! - Date.now() / 1000)).toBeLessThan(60);
  expect(await set("pause")).toEqual(paused);
  const job = await client.submit({ model: "org/paused" });
  expect(job.queue).toMatchObject({ reason: "paused", eta: null });
  expect(await (await client.get("/v1/models/org/paused")).json()).toMatchObject({
    status: "paused",
  });
  const queues = await operator.get("/v1/operator/queues");
  expect((await queues.json<{ data: object[] }>()).data).toContainEqual(
    expect.objectContaining({ models: ["org/paused"], paused: true }),
  );
  // No worker serves it for a day: it is forgotten, but stays paused.
  await end();
  const listed = await operator.get("/v1/operator/models");
  expect((await listed.json<{ data: object[] }>()).data).toContainEqual(
    expect.objectContaining({ id: "org/paused", workers: 0, paused_at: paused.paused_at }),
  );
  expect(await set("resume")).toMatchObject({ status: "no_worker", paused_at: null });
  expect((await client.job(job.id)).queue).toMatchObject({ reason: "no_worker" });
  const unknown = await operator.post("/v1/operator/models/org/paused/pause");
  expect(await errorOf(unknown)).toMatchObject({ status: 404, code: "model_not_found" });
});

test("running jobs of all tenants are listed without texts and metadata, and can be cancelled", async () => {
  const [client, operator] = [await newTenant(), await newOperator()];
  const secret = "the tenant's secret";
  const { id } = await client.submit({ prompt: secret, metadata: { secret } });
  await claim(id);
  const listed = await (await operator.get("/v1/operator/jobs")).text();
  expect(listed).not.toContain(secret);
  const { data } = JSON.parse(listed) as { data: OperatorJob[] };
  expect(data.find((job) => job.id === id)).toMatchObject({
    tenant: client.tenant,
    model: card.id,
    state: "running",
    phase: "loading",
    attempts: 1,
  });
  const cancelled = await operator.post(`/v1/operator/jobs/${id}/cancel`);
  expect(await cancelled.json()).toEqual({
    id,
    object: "job",
    state: "running",
    cancel_requested: true,
  });
  expect((await operator.get(`/v1/jobs/${id}`)).status).toBe(403);
  expect((await operator.post("/v1/operator/jobs/job_gone/cancel")).status).toBe(404);
});

test("the last hour counts each ended job in its minute, for its tenant and for the operator", async () => {
  const [client, other, operator] = [await newTenant(), await newTenant(), await newOperator()];
  const admin = await newTenant({ scopes: ["admin"] }, client.tenant);
  const sumOf = async (reply: Response) => {
    const { data } = await reply.json<Activity>();
    expect(data.length).toBe(60);
    expect(data.every(({ at }, i) => at === data[0]!.at + 60 * i)).toBe(true);
    const sum = (name: Exclude<keyof (typeof data)[0], "at">) =>
      data.reduce((total, minute) => total + minute[name], 0);
    return {
      succeeded: sum("succeeded"),
      cancelled: sum("cancelled"),
      tokens: sum("completion_tokens"),
      started: sum("started"),
    };
  };
  const all = () => operator.get("/v1/operator/activity").then(sumOf);
  const before = await all();
  await play((await client.submit()).id, ["Hi"]);
  await play((await other.submit()).id, ["Hi"]);
  await client.post(`/v1/jobs/${(await client.submit()).id}/cancel`);
  const own = { succeeded: 1, cancelled: 1, tokens: 2, started: 1 };
  expect(await admin.get("/v1/activity").then(sumOf)).toEqual(own);
  const after = await all();
  // Jobs of other test files may end meanwhile.
  expect(after.succeeded - before.succeeded).toBeGreaterThanOrEqual(2);
  expect(after.started - before.started).toBeGreaterThanOrEqual(2);
  expect((await client.get("/v1/activity")).status).toBe(403);
});

test("only an operator's key drains, pauses, or sees other tenants", async () => {
  const admin = await newTenant({ scopes: ["admin", "jobs:read", "jobs:write"] });
  const paths = ["jobs", "workers", "models", "activity"].map((name) => `/v1/operator/${name}`);
  const posts = ["workers/x/drain", "models/demo/pause", "models/demo/resume", "jobs/x/cancel"];
  const replies = [
    ...(await Promise.all(paths.map((path) => admin.get(path)))),
    ...(await Promise.all(posts.map((path) => admin.post(`/v1/operator/${path}`)))),
  ];
  expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 403));
});
