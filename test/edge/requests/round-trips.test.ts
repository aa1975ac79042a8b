/** Reads of Redis that requests avoid: a submission does not read its job, and a reply that is not streamed reads no tokens. */
import { beforeEach, expect, test, vi } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { log } from "../../../edge/runtime/log.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { QueueEstimate } from "../../../shared/queue/queue-estimate.ts";
import { card, newTenant, play, redisUrl, type Client } from "../harness.ts";

const env = parseEnv({ REDIS_URL: redisUrl, STREAM_HEARTBEAT_SECONDS: 1 });
const edge = createApp({
  openStores: () => new RequestStores(env, null),
  deadlineSeconds: 60,
  webhookAllow: [],
  log,
});
const readRecord = vi.spyOn(JobStore.prototype, "record");
const readLog = vi.spyOn(JobStore.prototype, "entries");

let client: Client;
beforeEach(async () => {
  client = await newTenant();
  readRecord.mockClear();
  readLog.mockClear();
});

const post = async (path: string, body: object) =>
  edge.request(path, {
    method: "POST",
    headers: { authorization: `Bearer ${client.key}` },
    body: JSON.stringify(body),
  });

test("a submission's reply is made without reading the job, and equals the reply to a read", async () => {
  const metadata = { a: "b" };
  const webhook = { url: "https://example.com/hook" };
  const reply = await post("/v1/jobs", { model: card.id, prompt: "x", metadata, webhook });
  const job = await reply.json<Job>();
  const ofJob = ([id]: readonly unknown[]) => id === job.id;
  expect(readRecord.mock.calls.filter(ofJob)).toEqual([]);
  expect(readLog.mock.calls.filter(ofJob)).toEqual([]);
  expect(await client.job(job.id)).toEqual(job);
});

test("the place of a submitted job is asked for once, with the submission", async () => {
  const request = { model: card.id, prompt: "x" };
  // Redis may not know the scripts yet.
  await post("/v1/jobs", request);
  const asked = vi.spyOn(QueueEstimate.prototype, "forJob");
  const read = vi.spyOn(RequestStores.prototype, "readJob");
  const job = await (await post("/v1/jobs", request)).json<Job>();
  expect(job.queue?.position).toBeGreaterThan(1);
  // Waits of other files may go on in this runtime.
  const orders = asked.mock.calls.flatMap(([{ id }], i) =>
    id === job.id ? [asked.mock.invocationCallOrder[i]!] : [],
  );
  expect(orders).toHaveLength(1);
  const readAt = read.mock.calls.findIndex(([{ id }]) => id === job.id);
  expect(orders[0]).toBeLessThan(read.mock.invocationCallOrder[readAt]!);
});

test("a reply that is not streamed reads no tokens", async () => {
  const messages = [{ role: "user", content: "Hi" }];
  const reply = post("/v1/chat/completions", { model: card.id, messages });
  const id = await client.queuedJob();
  await play(id, ["Hel", "lo"]);
  expect(await (await reply).json()).toMatchObject({
    choices: [{ message: { content: "Hello" } }],
  });
  expect(readLog).not.toHaveBeenCalled();
});
