/** `/v1/jobs`: a job from its submission to its end or its cancellation. */
import { Queue } from "bullmq";
import { expect, test } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import { DELIVERY_QUEUE, FLOW_QUEUE_PREFIX, TAG } from "../../../shared/redis/keys.ts";
import {
  card,
  claim,
  errorOf,
  newTenant,
  play,
  redis,
  appendText,
  store,
  success,
  usage,
  webhooks,
} from "../harness.ts";

const queue = (name: string) => new Queue(name, { connection: redis, prefix: TAG });

test("a submitted job is accepted, recorded and queued", async () => {
  const client = await newTenant();
  const reply = await client.post("/v1/jobs", { model: card.id, prompt: "Hello", seed: 7 });
  const job = await reply.json<Job>();
  expect(reply.status).toBe(202);
  expect(reply.headers.get("location")).toBe(`/v1/jobs/${job.id}`);
  expect(reply.headers.get("x-trimtab-job-id")).toBe(job.id);
  expect(job).toEqual({
    id: expect.stringMatching(/^job_[A-Za-z0-9]{24}$/),
    object: "job",
    model: card.id,
    state: "queued",
    phase: "waiting",
    waiting_for: null,
    queue: {
      position: expect.any(Number),
      tokens_ahead: expect.any(Number),
      eta: null,
      reason: "no_worker",
    },
    timings: {
      loading_at: null,
      prefill_at: null,
      decode_at: null,
      first_token_at: null,
      time_to_first_token: null,
      tokens_per_second: null,
    },
    created_at: expect.closeTo(Date.now() / 1000, 0),
    started_at: null,
    ended_at: null,
    deleted_at: null,
    priority: 0,
    attempts: 0,
    cancel_requested: false,
    steering: { alpha: card.alphaDefault },
    seed: 7,
    reproducible: true,
    output: { text: "", finish_reason: null },
    usage: null,
    error: null,
    metadata: {},
    webhook: null,
  });
  expect(
    await redis.zscore(`${FLOW_QUEUE_PREFIX}${card.id}++${client.tenant}`, job.id),
  ).not.toBeNull();
});

test("a job shows its text so far, and its outcome after it has ended", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  await appendText(id, attempt, "Hel");
  await appendText(id, attempt, "lo");
  expect(await client.job(id)).toMatchObject({
    state: "running",
    attempts: 1,
    output: { text: "Hello", finish_reason: null },
    usage: null,
  });
  await store.finish(id, attempt, "succeeded", "Hello", success);
  const job = await client.job(id);
  expect(job).toMatchObject({
    state: "succeeded",
    output: { text: "Hello", finish_reason: "stop" },
    usage,
  });
  expect(job.deleted_at! - job.ended_at!).toBe(3_600);
});

test("a failed job shows its error", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const error = { code: "context_length_exceeded", message: "Too long" } as const;
  await play(id, [], { finish_reason: null, usage, error });
  expect(await client.job(id)).toMatchObject({ state: "failed", error });
});

test("a queued job is cancelled at once, and cancelling again changes nothing", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const first = await client.post(`/v1/jobs/${id}/cancel`);
  const job = await first.json<Job>();
  expect(first.status).toBe(200);
  expect(job).toMatchObject({ state: "cancelled", cancel_requested: true });
  const again = await client.post(`/v1/jobs/${id}/cancel`);
  expect(again.status).toBe(200);
  expect(await again.json()).toEqual(job);
});

test("cancelling a running job requests it from its worker, and keeps the text so far", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  await appendText(id, attempt, "half");
  const reply = await client.post(`/v1/jobs/${id}/cancel`);
  expect(await reply.json()).toMatchObject({ state: "running", cancel_requested: true });
  expect(await appendText(id, attempt, " a word")).toBe("cancel");
  await store.finish(id, attempt, "cancelled", "half a word", { ...success, finish_reason: null });
  expect(await client.job(id)).toMatchObject({
    state: "cancelled",
    output: { text: "half a word" },
  });
});

test("cancelling an ended job returns it unchanged", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["done"]);
  const before = await client.job(id);
  expect(await (await client.post(`/v1/jobs/${id}/cancel`)).json()).toEqual(before);
});

test("a key that may not read cancels jobs without seeing their text, instructions or metadata", async () => {
  const client = await newTenant();
  const writer = await newTenant({ scopes: ["jobs:write"] }, client.tenant);
  const { id } = await client.submit({ metadata: { a: "secret" } });
  await play(id, ["secret"]);
  const job = await writer.post(`/v1/jobs/${id}/cancel`);
  expect(await job.json()).toEqual({
    id,
    object: "job",
    state: "succeeded",
    cancel_requested: false,
  });
  const input = { model: card.id, input: "Hi", instructions: "secret", background: true };
  const { id: responseId } = await (
    await client.post("/v1/responses", input)
  ).json<{ id: string }>();
  await client.playNext(["secret"]);
  const response = await writer.post(`/v1/responses/${responseId}/cancel`);
  expect(response.status).toBe(200);
  expect(await response.text()).not.toContain("secret");
});

test("cancelling a queued job sends its webhook once", async () => {
  const client = await newTenant();
  const { id } = await client.submit({ webhook: { url: "https://example.com/hook" } });
  const cancels = await Promise.all([1, 2, 3].map(() => client.post(`/v1/jobs/${id}/cancel`)));
  expect(cancels.map((reply) => reply.status)).toEqual([200, 200, 200]);
  const delivery = `${id.replace("job_", "msg_")}-job`;
  expect(await queuedDeliveries(delivery)).toEqual([`${delivery}-1`]);
  expect(await webhooks.deliveries.get(client.tenant, delivery)).toMatchObject({
    url: "https://example.com/hook",
    state: "pending",
  });
  const body = JSON.parse((await webhooks.deliveries.body(client.tenant, delivery)) ?? "");
  expect(body).toMatchObject({ type: "job.cancelled", data: { id, state: "cancelled" } });
});

test("cancelling a job without a webhook sends none", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await client.post(`/v1/jobs/${id}/cancel`);
  expect(await queuedDeliveries(id.replace("job_", "msg_"))).toEqual([]);
});

async function queuedDeliveries(prefix: string): Promise<string[]> {
  const waiting = await queue(DELIVERY_QUEUE).getWaiting();
  return waiting.map(({ id }) => id ?? "").filter((id) => id.startsWith(prefix));
}

test("a job can be deleted, and is then not found", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const reply = await client.send(`/v1/jobs/${id}`, "DELETE");
  expect(await reply.json()).toEqual({ id, object: "job", deleted: true });
  expect(await store.record(id)).toBeNull();
  expect((await client.send(`/v1/jobs/${id}`, "DELETE")).status).toBe(404);
});

test("a known path refuses other methods and lists its own in Allow", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const put = await client.send(`/v1/jobs/${id}`, "PUT");
  expect(put.headers.get("allow")).toBe("GET, HEAD, DELETE, POST");
  expect(await errorOf(put)).toMatchObject({ status: 405, code: "method_not_allowed" });
  const patch = await client.patch("/v1/jobs", {});
  expect(patch.headers.get("allow")).toBe("GET, HEAD, POST");
  expect(patch.status).toBe(405);
});
