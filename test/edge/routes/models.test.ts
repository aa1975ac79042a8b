/** The models of `GET /v1/models`, and jobs for a model that no worker serves. */
import { expect, test } from "vitest";
import type { Model } from "../../../shared/api/models.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import { card, errorOf, newTenant, redis } from "../harness.ts";

const throughput = {
  slots: 8,
  busy: 0,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};
/** Plays a worker that serves one model. */
const serve = (worker: string, model: typeof card) =>
  sendHeartbeat(redis, worker, { version: "1", throughput, models: [model] }, [model]);

test("a model that no worker serves is listed as such, and its jobs say that they wait for a worker", async () => {
  const client = await newTenant();
  const reply = await client.get(`/v1/models/${card.id}`);
  expect(reply.status).toBe(200);
  expect(await reply.json()).toMatchObject({
    id: card.id,
    object: "model",
    status: "no_worker",
    since: null,
    workers: 0,
    slots: 0,
    job_tokens_max: null,
    slow_graphs: [],
    fingerprints: ["weights"],
    reproducible: true,
  });
  const job = await client.submit({ model: card.id, prompt: "Hello" });
  expect(job.queue).toMatchObject({ reason: "no_worker", eta: null });
});

test("a model with workers has their number and slots; a job for it and for another model waits for a worker with both", async () => {
  const client = await newTenant();
  const slowGraphs = [{ role: "base", reason: "its attention stays within chunks" }];
  const model = { ...card, id: "served", slowGraphs };
  const beforeSeconds = Math.floor(Date.now() / 1000);
  await serve("a", model);
  await serve("b", model);
  const { data } = await (await client.get("/v1/models")).json<{ data: Model[] }>();
  const found = data.find(({ id }) => id === "served");
  expect(found).toMatchObject({
    status: "available",
    workers: 2,
    slots: 16,
    slow_graphs: slowGraphs,
  });
  expect(Math.abs(found!.since! - beforeSeconds)).toBeLessThan(5);
  const job = await client.submit({ model: "served", prompt: "Hello" });
  expect(job.queue).toMatchObject({ reason: null });
  const pairs = [{ model: "served" }, { model: card.id }];
  const steered = await client.submit({ model: "served", prompt: "Hello", steering: { pairs } });
  expect(steered.queue).toMatchObject({ reason: "no_worker", eta: null });
});

test("a model whose base answers none of its workers is listed as away with the reason, and its jobs wait for the base", async () => {
  const client = await newTenant();
  const model = { ...card, id: "remote" };
  const away = "The base model big: the connection failed";
  const report = { version: "1", throughput, models: [{ ...model, away }] };
  await sendHeartbeat(redis, "a", report, [model]);
  expect(await (await client.get("/v1/models/remote")).json()).toMatchObject({
    status: "base_away",
    status_reason: away,
    workers: 1,
  });
  const job = await client.submit({ model: "remote", prompt: "Hello" });
  expect(job.queue).toMatchObject({ reason: "base_away", eta: null });
  await serve("b", model);
  expect(await (await client.get("/v1/models/remote")).json()).toMatchObject({
    status: "available",
    status_reason: null,
  });
  const { queue } = await client.job(job.id);
  expect(queue).toMatchObject({ reason: null });
});

test("different weights under one name are shown, and the model is not reproducible then", async () => {
  const client = await newTenant();
  await serve("a", { ...card, id: "twice" });
  await serve("b", { ...card, id: "twice", fingerprint: "others" });
  expect(await (await client.get("/v1/models/twice")).json()).toMatchObject({
    workers: 2,
    fingerprints: ["others", "weights"],
    reproducible: false,
  });
});

test("an unknown model is refused", async () => {
  const client = await newTenant();
  const reply = await client.get("/v1/models/unknown");
  expect(reply.status).toBe(404);
  expect(await errorOf(reply)).toMatchObject({ code: "model_not_found" });
});
