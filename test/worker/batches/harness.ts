/** A Redis with batches and the stores of their steps, for tests that do the steps and end the jobs themselves. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import type { Batch, BatchEndpoint, BatchResult } from "../../../shared/api/batches.ts";
import { toBatch } from "../../../shared/batches/batch-reply.ts";
import { BatchStore, resultFileId } from "../../../shared/batches/store.ts";
import type { TerminalState } from "../../../shared/api/jobs.ts";
import type { Outcome } from "../../../shared/api/job-events.ts";
import { FileStore } from "../../../shared/files/store.ts";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import type { KeyLimits } from "../../../shared/api/keys.ts";
import { contentKey, MODELS_KEY } from "../../../shared/redis/keys.ts";
import { hasModels, readModel, workersServing } from "../../../shared/workers/registry.ts";
import { BatchResultFiles } from "../../../worker/batches/result-files.ts";
import { stepBatch, type BatchStepDeps } from "../../../worker/batches/step.ts";
import { claimJob } from "../../support/claim.ts";

let server: RedisServer;
export let redis: Redis;
export let deps: BatchStepDeps;
export let queued: string[];
export let published: Batch[];

export const card = {
  id: "demo",
  description: "",
  createdAtMs: 0,
  contextTokens: 100,
  vocabSize: 100,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "base",
  fingerprint: "weights",
  reproducible: true,
};

/** Records the ids of the jobs that are submitted. */
class RecordingStore extends JobStore {
  override async submitAll(...args: Parameters<JobStore["submitAll"]>) {
    const result = await super.submitAll(...args);
    if (result.status === "created") queued.push(...args[0].map(({ id }) => id));
    return result;
  }
}

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  const store = new RecordingStore(redis, 60_000);
  const batches = new BatchStore(redis);
  const files = new FileStore(redis, null);
  deps = {
    store,
    batches,
    files,
    resultFiles: new BatchResultFiles({ redis, batches, files, bucket: null }),
    clock: { now: () => Date.now() },
    keys: new KeyRegistry(redis),
    hasModels: () => hasModels(redis),
    log: { error: () => {} },
    publisher: {
      publishJobEnd: async () => {},
      publishBatchEnd: async (_, batch) => void published.push(batch),
    },
    requestContext: {
      models: {
        model: (id) => readModel(redis, id),
        workersOf: (id) => workersServing(redis, [id]),
      },
      jobs: store,
      webhookAllow: [],
    },
    readJob: (record) => readJob(record, jobSources(redis, store)),
    openLinesMax: 3,
  };
});
beforeEach(async () => {
  queued = [];
  published = [];
  await redis.hset(MODELS_KEY, card.id, JSON.stringify(card));
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

export const CHAT = "/v1/chat/completions";
const BODIES: Readonly<Record<BatchEndpoint, object>> = {
  "/v1/chat/completions": { messages: [{ role: "user", content: "Hi" }] },
  "/v1/completions": { prompt: "Hi" },
  "/v1/responses": { input: "Hi" },
};

export function lines(count: number, url: BatchEndpoint = CHAT, changes: object = {}): string {
  const body = { model: card.id, ...BODIES[url], ...changes };
  const all = Array.from({ length: count }, (_, i) =>
    JSON.stringify({ custom_id: `line-${i + 1}`, method: "POST", url, body }),
  );
  return all.join("\n");
}

interface CreatedBatch {
  readonly id: string;
  readonly tenant: string;
  readonly keyId: string;
}

export async function createBatch(
  text: string,
  { endpoint = CHAT, limits = {} }: { endpoint?: BatchEndpoint; limits?: KeyLimits } = {},
): Promise<CreatedBatch> {
  const policy = { scopes: ["jobs:write" as const, "jobs:read" as const], limits };
  const { id: keyId, tenant } = await deps.keys.create("test", undefined, policy);
  const fileId = newId("file");
  const writer = await deps.files.openUpload({ tenant, id: fileId, bytesMax: null });
  await writer.write(new TextEncoder().encode(text));
  await deps.files.save(tenant, {
    id: fileId,
    name: "in.jsonl",
    purpose: "batch",
    place: await writer.end(),
    bytes: writer.bytes,
    createdAtMs: Date.now(),
    expiresAtMs: Date.now() + 3_600_000,
  });
  const id = newId("batch");
  await deps.batches.create({
    id,
    tenant,
    keyId,
    endpoint,
    inputFileId: fileId,
    metadata: {},
    fileSeconds: 3_600,
  });
  return { id, tenant, keyId };
}

export const step = (id: string) => stepBatch(deps, id);
export const view = async (id: string) => toBatch((await deps.batches.get(id))!);

/** Does steps until the batch has ended or a step changes nothing. */
export async function run(id: string): Promise<Batch> {
  for (let before = ""; ;) {
    const hasMore = await step(id);
    const batch = await view(id);
    const now = JSON.stringify([batch, queued.length]);
    if (!hasMore || now === before) return batch;
    before = now;
  }
}

/** Ends a job as its worker would. */
export async function play(
  jobId: string,
  state: TerminalState = "succeeded",
  text = "Hello",
): Promise<void> {
  const { attempt } = await claimJob(redis, jobId);
  const usage = { ...NEVER_RAN.usage, prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 };
  const outcome: Outcome = {
    finish_reason: state === "succeeded" ? "stop" : null,
    usage,
    error: null,
  };
  await deps.store.finish(jobId, attempt, state, text, outcome);
}

export async function results(id: string, kind: "output" | "error"): Promise<BatchResult[]> {
  const text = (await redis.get(contentKey(resultFileId(id, kind)))) ?? "";
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as BatchResult);
}

export const named = (all: readonly BatchResult[]) => all.map(({ custom_id }) => custom_id!);
