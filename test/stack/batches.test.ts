/** Batches on the whole stack: each line has one result, even if workers crash, and other requests do not wait for batches. */
import { Queue } from "bullmq";
import OpenAI, { toFile } from "openai";
import * as v from "valibot";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startWebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import type { BatchResult } from "../../shared/api/batches.ts";
import { KeyPolicy } from "../../shared/api/keys.ts";
import { BATCH_QUEUE, TAG, WAITING_JOBS_KEY } from "../../shared/redis/keys.ts";
import { countingFrom, DEADLINE_MS, runToEnd, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack(null);
const ENDPOINT = "/v1/chat/completions";
let openai: OpenAI;
beforeAll(() => {
  openai = new OpenAI({ apiKey: stack.key.key, baseURL: `${stack.edge.url}/v1` });
});

const messages = [{ role: "user", content: "What is the capital of France?" }];
const body = { model: "atlas-qa", messages, temperature: 0, max_tokens: 8 };
/** Runs for a second or more. */
const long = { ...body, max_tokens: 200, logit_bias: { "0": -100 } };

const line = (custom_id: string, fields: object = body) =>
  JSON.stringify({ custom_id, method: "POST", url: ENDPOINT, body: fields });
const lines = (count: number, fields: object) =>
  countingFrom(1, count).map((i) => line(`line-${i}`, { ...fields, seed: i }));

async function create(input: readonly string[], endpoint = ENDPOINT): Promise<OpenAI.Batch> {
  const file = await toFile(Buffer.from(input.join("\n")), "in.jsonl");
  const { id } = await openai.files.create({ file, purpose: "batch" });
  return openai.batches.create({
    input_file_id: id,
    endpoint: endpoint as typeof ENDPOINT,
    completion_window: "24h",
  });
}

/** Waits until the batch meets the condition. @returns the batch */
async function batchUntil(
  id: string,
  condition: (batch: OpenAI.Batch) => boolean,
): Promise<OpenAI.Batch> {
  let batch = await openai.batches.retrieve(id);
  await expect
    .poll(async () => condition((batch = await openai.batches.retrieve(id))), {
      timeout: DEADLINE_MS,
    })
    .toBe(true);
  return batch;
}

const hasEnded = ({ status }: OpenAI.Batch) =>
  ["completed", "failed", "expired", "cancelled"].includes(status);

async function results(fileId: string | null | undefined): Promise<BatchResult[]> {
  if (!fileId) return [];
  const text = await (await openai.files.content(fileId)).text();
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as BatchResult);
}

const names = (all: readonly BatchResult[]) => all.map(({ custom_id }) => custom_id!).toSorted();
const completedCount = ({ request_counts }: OpenAI.Batch) => request_counts!.completed;

/** Starts a receiver for the webhooks of the tenant's completed batches. */
async function receiver() {
  const started = await startWebhookReceiver({ secret: stack.key.webhookSecret ?? "" });
  onTestFinished(() => started.close());
  const policy = v.parse(KeyPolicy, { scopes: ["admin"] });
  const { key } = await stack.keys.create("admin", stack.key.tenant, policy);
  const body = JSON.stringify({ url: started.url, events: ["batch.completed"] });
  const admin = new JobClient(stack.edge.url, key);
  await admin.request("/v1/webhook_endpoints", { method: "POST", body });
  return started;
}

test("each line has its reply or its error, and replies equal those of single requests", async () => {
  const worker = await stack.startWorker();
  const { accepted, received } = await receiver();
  const bad = [
    "not JSON",
    line("good-0", body),
    line("unknown-model", { ...body, model: "none" }),
    line("too-hot", { ...body, temperature: 3 }),
    line("streamed", { ...body, stream: true }),
    JSON.stringify({ custom_id: "elsewhere", method: "POST", url: "/v1/completions", body: {} }),
    line("", body),
  ];
  const good = countingFrom(0, 13).map((i) => line(`good-${i}`, { ...body, seed: i }));
  const batch = await create([...good, "", ...bad]);
  const ended = await batchUntil(batch.id, hasEnded);
  expect(ended).toMatchObject({
    status: "completed",
    request_counts: { total: 20, completed: 13, failed: 7 },
  });

  const answers = await results(ended.output_file_id);
  expect(names(answers)).toEqual(
    countingFrom(0, 13)
      .map((i) => `good-${i}`)
      .toSorted(),
  );
  const alone = await openai.chat.completions.create({ ...body, seed: 3 } as never);
  const third = answers.find(({ custom_id }) => custom_id === "good-3")?.response?.body;
  expect(third).toEqual({
    ...(alone as object),
    id: expect.any(String),
    created: expect.any(Number),
    usage: expect.any(Object),
  });

  const errors = await results(ended.error_file_id);
  const errorOf = (name: string | null) =>
    errors.find(({ custom_id }) => custom_id === name)?.response?.body;
  expect(errors).toHaveLength(7);
  expect(errorOf(null)).toMatchObject({ error: { message: "The line is not valid JSON" } });
  expect(errorOf("good-0")).toMatchObject({ error: { param: "custom_id" } });
  expect(errorOf("unknown-model")).toMatchObject({ error: { code: "model_not_found" } });
  expect(errorOf("too-hot")).toMatchObject({ error: { param: "temperature" } });
  expect(errorOf("streamed")).toMatchObject({ error: { param: "body.stream" } });
  expect(errorOf("elsewhere")).toMatchObject({ error: { param: "url" } });
  expect(ended.usage!.output_tokens).toBeGreaterThan(0);
  const delivery = await accepted(batch.id, DEADLINE_MS);
  expect(delivery).toMatchObject({ type: "batch.completed", verified: true });
  expect(received).toHaveLength(1);
  await worker.stop();
});

test("other requests run before the lines of a batch, and the batch's counts advance while it runs", async () => {
  const worker = await stack.startWorker({ SLOTS: "1" });
  const batch = await create(lines(6, long));
  const before = await batchUntil(batch.id, (batch) => completedCount(batch) >= 1);
  expect(before).toMatchObject({ status: "in_progress", request_counts: { total: 6 } });
  expect((await runToEnd(stack.client, SHORT_JOB)).state).toBe("succeeded");
  // All lines were queued before this job: one was running, and perhaps one more ended meanwhile.
  const after = await openai.batches.retrieve(batch.id);
  expect(completedCount(after) - completedCount(before)).toBeLessThanOrEqual(2);
  expect(await batchUntil(batch.id, hasEnded)).toMatchObject({
    status: "completed",
    request_counts: { total: 6, completed: 6, failed: 0 },
  });
  await worker.stop();
});

test("a worker is killed during a batch: another one continues it, and every line has one result", async () => {
  const first = await stack.startWorker();
  const batch = await create(lines(20, { ...long, max_tokens: 60 }));
  await batchUntil(batch.id, (batch) => completedCount(batch) >= 3);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker();
  const ended = await batchUntil(batch.id, hasEnded);
  expect(ended).toMatchObject({
    status: "completed",
    request_counts: { total: 20, completed: 20, failed: 0 },
    error_file_id: null,
  });
  expect(names(await results(ended.output_file_id))).toEqual(
    countingFrom(1, 20)
      .map((i) => `line-${i}`)
      .toSorted(),
  );
  await second.stop();
});

test("a cancelled batch keeps its results, has an error for every other line, and leaves nothing in the queue", async () => {
  const worker = await stack.startWorker({ SLOTS: "1", BATCH_LINES: "4" });
  const batch = await create(lines(12, long));
  await batchUntil(batch.id, (batch) => completedCount(batch) >= 1);
  expect((await openai.batches.cancel(batch.id)).status).toBe("cancelling");
  const ended = await batchUntil(batch.id, hasEnded);
  const { completed, failed } = ended.request_counts!;
  expect(ended.status).toBe("cancelled");
  expect(completed).toBeGreaterThan(0);
  expect(completed + failed).toBe(12);
  const [answers, errors] = await Promise.all([
    results(ended.output_file_id),
    results(ended.error_file_id),
  ]);
  expect(answers).toHaveLength(completed);
  expect(names([...answers, ...errors])).toEqual(
    countingFrom(1, 12)
      .map((i) => `line-${i}`)
      .toSorted(),
  );
  for (const { error } of errors) expect(error).toMatchObject({ code: "batch_cancelled" });
  expect((await runToEnd(stack.client, SHORT_JOB)).state).toBe("succeeded");
  expect(await stack.redis.zcard(WAITING_JOBS_KEY)).toBe(0);
  await worker.stop();
});

test("a batch that was created but never queued is found by the next worker", async () => {
  const batch = await create(lines(1, body));
  const queue = new Queue(BATCH_QUEUE, { connection: stack.redis, prefix: TAG });
  await queue.obliterate({ force: true });
  const worker = await stack.startWorker();
  expect(await batchUntil(batch.id, hasEnded)).toMatchObject({ status: "completed" });
  await worker.stop();
});
