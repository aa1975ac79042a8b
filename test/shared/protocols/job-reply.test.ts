/** The parts of a job reply that are read outside the job's record. */
import { Redis } from "ioredis";
import { afterAll, expect, inject, test } from "vitest";
import { newId } from "../../../shared/ids.ts";
import { messageId } from "../../../shared/jobs/ids.ts";
import type { JobRecord, NewJob } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import { DeliveryStore } from "../../../shared/webhooks/delivery-store.ts";
import { generation, newJob } from "../../support/generation.ts";
import { claimJob } from "../../support/claim.ts";

const redis = new Redis(inject("redisUrl"));
const store = new JobStore(redis, 60_000);
afterAll(() => redis.disconnect());

const throughput = {
  slots: 1,
  busy: 0,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};

async function submitted(changes: Partial<NewJob>): Promise<JobRecord> {
  const job = newJob(changes);
  await store.submit(job);
  return (await store.record(job.id))!;
}

const readReply = async ({ id }: JobRecord) =>
  readJob((await store.record(id))!, jobSources(redis, store));

test("the reply for a job has the webhook deliveries of its start, its end and that of its response", async () => {
  const record = await submitted({
    generation: generation({ seed: 3 }),
    metadata: { a: "b" },
    webhookUrl: "https://example.com/hook",
    requestOptions: { protocol: "responses" },
  });
  const { id, tenant } = record;
  const { attempt: number } = await claimJob(redis, id);
  await store.finish(id, number, "succeeded", "a", { ...NEVER_RAN, finish_reason: "length" });
  const deliveries = new DeliveryStore(redis);
  const attempts = [
    { message: "-started", type: "job.started", at: 1 },
    { message: "-response", type: "response.incomplete", at: 2 },
    { message: "", type: "job.succeeded", at: 3 },
  ].map(({ message, type, at }) => {
    return { id: `${messageId(id)}${message}`, type, at, attempt: 1, status: 500, error: null };
  });
  const shown = [];
  for (const { id: messageId, type, ...rest } of attempts) {
    const message = { id: messageId, type, body: "{}", jobId: id };
    const to = { endpointId: null, url: record.webhookUrl };
    const delivery = await deliveries.create(tenant, message, to);
    const attempt = { ...rest, duration_ms: 3 };
    await deliveries.recordAttempt(tenant, delivery, attempt, "pending", 4);
    shown.push({ ...attempt, type });
  }
  const reply = await readReply(record);
  expect(reply.webhook).toEqual({ url: "https://example.com/hook", deliveries: shown });
  expect(reply).toMatchObject({ metadata: { a: "b" }, seed: 3, steering: { alpha: 1 } });
});

test("the reply for a running job has its text so far without reading the log; that for an ended job has the token details of the log", async () => {
  const record = await submitted({ generation: generation({ logprobs: 0 }) });
  const { id } = record;
  await claimJob(redis, id);
  const logprobs = ["a", "b", "c"].map((token, i) => ({
    id: 97 + i,
    token,
    logprob: -1 - i,
    top: [],
  }));
  await store.appendTokens(id, 1, 0, { ids: [97], text: "a", logprobs: logprobs.slice(0, 1) });
  await store.appendTokens(id, 1, 1, { ids: [98, 99], text: "bc", logprobs: logprobs.slice(1) });
  expect((await readReply(record)).output).toEqual({ text: "abc", finish_reason: null });
  await store.finish(id, 1, "succeeded", "abc", { ...NEVER_RAN, finish_reason: "stop" });
  expect((await readReply(record)).output).toEqual({
    text: "abc",
    finish_reason: "stop",
    logprobs,
  });
});

test("a running job whose worker was lost waits for another one, and after its first token for one with the same weights", async () => {
  const model = newId("model");
  const record = await submitted({ generation: generation({ model }) });
  const { id } = record;
  const waitingFor = async () => (await readReply(record)).waiting_for;
  const serve = (fingerprint: string) => {
    const models = [{ id: model, fingerprint, reproducible: true }];
    return sendHeartbeat(redis, newId("worker"), { version: "1", throughput, models }, []);
  };
  expect(await waitingFor()).toBeNull();
  const { attempt } = await claimJob(redis, id, 600_000, "old");
  expect(await waitingFor()).toBeNull();
  await claimJob(redis, id, -1, "old");
  expect(await waitingFor()).toBe("worker");
  await serve("new");
  await store.appendTokens(id, attempt + 1, 0, { ids: [97], text: "a" });
  expect(await waitingFor()).toBe("weights");
  await serve("old");
  expect(await waitingFor()).toBe("worker");
});
