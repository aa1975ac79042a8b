/** A batch step by step on a real Redis, its jobs played by hand: what a stack of processes would meet only by luck. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { newId } from "../../shared/api-key.ts";
import type { Batch, BatchEndpoint, BatchResult } from "../../shared/batch-contract.ts";
import { BatchStore, resultFileId, toBatch } from "../../shared/batch-store.ts";
import type { Outcome, TerminalState } from "../../shared/contract.ts";
import { FairQueue } from "../../shared/fair-queue.ts";
import { FileStore } from "../../shared/file-store.ts";
import { JobStore, NEVER_RAN } from "../../shared/job-store.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import type { KeyLimits } from "../../shared/policy.ts";
import { batchKey, contentKey } from "../../shared/redis-keys.ts";
import { BatchFiles } from "../../worker/batch-files.ts";
import { stepBatch, type RunBatchDeps } from "../../worker/run-batch.ts";

let server: RedisServer;
let redis: Redis;
let deps: RunBatchDeps;
let queued: string[];
let announced: Batch[];

const card = {
  id: "demo",
  description: "",
  createdAtMs: 0,
  contextTokens: 100,
  vocabSize: 100,
  alphaDefault: 1,
  alphaMax: 2,
  base: "base",
};

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  const store = new JobStore(redis, 60_000);
  const batches = new BatchStore(redis);
  const files = new FileStore(redis, null);
  deps = {
    store,
    batches,
    files,
    batchFiles: new BatchFiles({ redis, batches, files, bucket: null }),
    keys: new KeyRegistry(redis),
    generations: { add: async (_, __, { jobId }) => void queued.push(jobId) },
    announcer: {
      ended: async () => {},
      batchEnded: async (_, batch) => void announced.push(batch),
    },
    lookup: {
      models: { model: async (id) => (id === card.id ? card : null) },
      jobs: store,
      webhookAllow: [],
    },
    openLinesMax: 3,
  };
});
beforeEach(() => {
  queued = [];
  announced = [];
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const CHAT = "/v1/chat/completions";
const BODIES: Readonly<Record<BatchEndpoint, object>> = {
  "/v1/chat/completions": { messages: [{ role: "user", content: "Hi" }] },
  "/v1/completions": { prompt: "Hi" },
  "/v1/responses": { input: "Hi" },
};

function lines(count: number, url: BatchEndpoint = CHAT, changes: object = {}): string {
  const body = { model: card.id, ...BODIES[url], ...changes };
  const all = Array.from({ length: count }, (_, i) =>
    JSON.stringify({ custom_id: `line-${i + 1}`, method: "POST", url, body }),
  );
  return all.join("\n");
}

interface Made {
  readonly id: string;
  readonly tenant: string;
  readonly keyId: string;
}

async function made(
  text: string,
  { endpoint = CHAT, limits = {} }: { endpoint?: BatchEndpoint; limits?: KeyLimits } = {},
): Promise<Made> {
  const policy = { scopes: ["jobs:write" as const], limits };
  const { id: keyId, tenant } = await deps.keys.create("test", undefined, policy);
  const fileId = newId("file");
  const writer = deps.files.writer(fileId);
  await writer.write(new TextEncoder().encode(text));
  await deps.files.save(tenant, {
    id: fileId,
    name: "in.jsonl",
    purpose: "batch",
    bytes: writer.bytes,
    createdAtMs: Date.now(),
    expiresAtMs: Date.now() + 3_600_000,
    place: await writer.end(),
  });
  const id = newId("batch");
  await deps.batches.create({
    id,
    tenant,
    keyId,
    endpoint,
    inputFileId: fileId,
    metadata: {},
    createdAtMs: Date.now(),
    fileSeconds: 3_600,
  });
  return { id, tenant, keyId };
}

const step = (id: string) => stepBatch(deps, id);
const view = async (id: string) => toBatch((await deps.batches.one(id))!);

/** To the end, or until no step changes anything. */
async function run(id: string): Promise<Batch> {
  for (let before = ""; ;) {
    const goesOn = await step(id);
    const batch = await view(id);
    const now = JSON.stringify([batch, queued.length]);
    if (!goesOn || now === before) return batch;
    before = now;
  }
}

/** Plays the worker of a job. */
async function play(jobId: string, state: TerminalState = "succeeded"): Promise<void> {
  const { attempt } = (await deps.store.claim(jobId, 5)) as { attempt: number };
  const usage = { ...NEVER_RAN.usage, prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 };
  const outcome: Outcome = {
    finish_reason: state === "succeeded" ? "stop" : null,
    usage,
    error: null,
  };
  await deps.store.finish(jobId, attempt, state, "Hello", outcome);
}

async function results(id: string, kind: "output" | "error"): Promise<BatchResult[]> {
  const text = (await redis.get(contentKey(resultFileId(id, kind)))) ?? "";
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as BatchResult);
}

const named = (all: readonly BatchResult[]) => all.map(({ custom_id }) => custom_id!);

test("only so many lines are open at once, behind all that others wait for, and the counts move", async () => {
  const { id, tenant } = await made(lines(5));
  expect(await view(id)).toMatchObject({ status: "validating", request_counts: { total: 0 } });
  expect(await run(id)).toMatchObject({ status: "in_progress", request_counts: { total: 5 } });
  expect(queued).toHaveLength(3);
  expect(await new FairQueue(redis).aheadOfNew(tenant, 0)).toEqual({ jobs: 0, tokens: 0 });
  await play(queued[1]!);
  expect(await run(id)).toMatchObject({ request_counts: { completed: 1 } });
  expect(queued).toHaveLength(4);
  for (const jobId of [queued[0]!, queued[2]!, queued[3]!]) await play(jobId);
  await run(id);
  await play(queued[4]!);
  const ended = await run(id);
  expect(ended).toMatchObject({
    status: "completed",
    request_counts: { total: 5, completed: 5, failed: 0 },
    usage: { input_tokens: 10, output_tokens: 15, total_tokens: 25 },
    error_file_id: null,
  });
  expect(announced).toEqual([ended]);
  const output = await results(id, "output");
  expect(named(output)).toHaveLength(5);
  expect(new Set(named(output)).size).toBe(5);
});

test.each([
  ["/v1/chat/completions", { choices: [{ message: { content: "Hello" } }] }],
  ["/v1/completions", { choices: [{ text: "Hello" }] }],
  ["/v1/responses", { object: "response", status: "completed" }],
] as const)("a line of %s is answered as that protocol answers", async (endpoint, body) => {
  const { id } = await made(lines(1, endpoint), { endpoint });
  await run(id);
  await play(queued[0]!);
  expect((await run(id)).status).toBe("completed");
  expect(await results(id, "output")).toMatchObject([
    {
      custom_id: "line-1",
      response: { status_code: 200, request_id: queued[0], body },
      error: null,
    },
  ]);
});

test("choices of a line are one answer, once all of them ended", async () => {
  const { id } = await made(lines(1, CHAT, { n: 2 }));
  await run(id);
  await play(queued[0]!);
  expect((await run(id)).request_counts.completed).toBe(0);
  await play(queued[1]!);
  await run(id);
  const [{ response }] = (await results(id, "output")) as [BatchResult];
  expect(response?.body).toMatchObject({ choices: [{ index: 0 }, { index: 1 }] });
});

test("steps that several workers make at once give each line one job and one result", async () => {
  const text = [lines(2), "no JSON", lines(2).replaceAll("line-", "other-")].join("\n");
  const { id } = await made(text);
  for (let round = 0; round < 8; round++) {
    await Promise.all([step(id), step(id), step(id)]);
    for (const jobId of new Set(queued)) await play(jobId).catch(() => {});
  }
  const ended = await view(id);
  expect(ended.request_counts).toEqual({ total: 5, completed: 4, failed: 1 });
  expect(named(await results(id, "output")).toSorted()).toEqual([
    "line-1",
    "line-2",
    "other-1",
    "other-2",
  ]);
  expect(await results(id, "error")).toHaveLength(1);
  expect(new Set(queued).size).toBe(4);
});

test("when its time is over, a batch keeps what it has and tells of every other line", async () => {
  const { id } = await made(lines(5));
  await run(id);
  await play(queued[0]!);
  await run(id);
  await redis.hset(batchKey(id), "deadlineMs", Date.now() - 1);
  const ended = await run(id);
  expect(ended).toMatchObject({
    status: "expired",
    request_counts: { total: 5, completed: 1, failed: 4 },
    expired_at: expect.any(Number),
  });
  expect(named(await results(id, "output"))).toEqual(["line-1"]);
  const errors = await results(id, "error");
  expect(named(errors).toSorted()).toEqual(["line-2", "line-3", "line-4", "line-5"]);
  for (const { error } of errors) expect(error).toMatchObject({ code: "batch_expired" });
  for (const jobId of queued.slice(1)) {
    expect((await deps.store.record(jobId))?.state).toBe("cancelled");
  }
});

test("what a running job has said is waited for when its batch is cancelled", async () => {
  const { id } = await made(lines(2));
  await run(id);
  const { attempt } = (await deps.store.claim(queued[0]!, 5)) as { attempt: number };
  await deps.batches.cancel(id);
  expect(await run(id)).toMatchObject({ status: "cancelling", request_counts: { failed: 1 } });
  const outcome = { ...NEVER_RAN, finish_reason: "stop" } as const;
  await deps.store.finish(queued[0]!, attempt, "succeeded", "Hello", outcome);
  expect(await run(id)).toMatchObject({
    status: "cancelled",
    request_counts: { total: 2, completed: 1, failed: 1 },
  });
});

test("a line waits while its key has no room for it, and takes none from other requests", async () => {
  const { id, keyId } = await made(lines(3), { limits: { concurrent_jobs: 1 } });
  await run(id);
  expect(queued).toHaveLength(1);
  expect(await redis.scard(`{trimtab}:key-jobs:${keyId}`)).toBe(0);
  for (let i = 0; i < 3; i++) {
    await play(queued[i]!);
    await run(id);
  }
  expect((await view(id)).request_counts).toEqual({ total: 3, completed: 3, failed: 0 });
});

test("a line that its key can never afford fails; the others do not", async () => {
  const large = lines(1, CHAT, { max_tokens: 90 });
  const { id } = await made(
    `${large}\n${lines(1, CHAT, { max_tokens: 5 }).replace("line-1", "ok")}`,
    {
      limits: { tokens_per_minute: 50 },
    },
  );
  await run(id);
  expect(named(await results(id, "error"))).toEqual(["line-1"]);
  expect(queued).toHaveLength(1);
});

test("a revoked key asks no more", async () => {
  const { id, keyId } = await made(lines(5));
  await run(id);
  await deps.keys.revoke(keyId);
  expect(await run(id)).toMatchObject({
    status: "cancelled",
    request_counts: { total: 5, completed: 0, failed: 5 },
  });
});

test("a job that was deleted meanwhile is a failed line", async () => {
  const { id } = await made(lines(1));
  await run(id);
  await deps.store.delete(queued[0]!);
  expect(await run(id)).toMatchObject({ status: "completed", request_counts: { failed: 1 } });
  expect(await results(id, "error")).toMatchObject([
    { custom_id: "line-1", response: { status_code: 404, body: { error: { code: "not_found" } } } },
  ]);
});

test.each([
  ["\n \n", "invalid_line_count"],
  ["{}\n".repeat(50_001), "invalid_line_count"],
])("a file without lines, or with too many, fails as a whole", async (text, code) => {
  const { id } = await made(text);
  const ended = await run(id);
  expect(ended).toMatchObject({ status: "failed", errors: { data: [{ code }] } });
  expect(ended.output_file_id).toBeNull();
});

test("an input file that is deleted ends the batch, with what it has", async () => {
  const { id, tenant } = await made(lines(5));
  await run(id);
  const [file] = await deps.files.all(tenant);
  await deps.files.delete(tenant, file!);
  await play(queued[0]!);
  expect(await run(id)).toMatchObject({
    status: "failed",
    errors: { data: [{ code: "input_file_not_found" }] },
    request_counts: { completed: 1 },
    output_file_id: resultFileId(id, "output"),
  });
});
