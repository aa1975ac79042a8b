/** Drained workers get no jobs, and no job of a paused model starts. */
import { Redis } from "ioredis";
import { afterAll, afterEach, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { runningJobs } from "../../../shared/jobs/running-jobs.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { DRAINING_WORKERS_KEY } from "../../../shared/redis/keys.ts";
import { pausedModels, pauseModel, resumeModel } from "../../../shared/workers/model-pauses.ts";
import { generation, newJob } from "../../support/generation.ts";

const MODEL = "atlas-qa";
const LANES = [
  [MODEL, "a"],
  [`${MODEL}+gsm-mini`, "a+b"],
] as const;

const server = await startRedis();
const redis = new Redis(server.url);
const store = new JobStore(redis, 60_000);
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

async function submitted(changes: Partial<NewJob> = {}): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  return job.id;
}

const order = { lanes: LANES, takesJobs: true, leaseMs: 60_000, attemptsMax: 3 };
async function takenId(worker: string, leaseMs = order.leaseMs): Promise<string | null> {
  const { job } = await new JobLeases(redis, worker).take({ ...order, leaseMs });
  return job?.record.id ?? null;
}

test("a drained worker gets no job, and another worker gets it", async () => {
  const id = await submitted();
  await redis.sadd(DRAINING_WORKERS_KEY, "worker_1");
  expect(await takenId("worker_1")).toBeNull();
  expect(await takenId("worker_2")).toBe(id);
});

test("no job of a paused model starts or is taken over, alone or with others, until it is resumed", async () => {
  const lost = await submitted();
  await takenId("worker_1", 0);
  await store.appendTokens(lost, fenceOf((await store.record(lost))!), 0, { ids: [1], text: "a" });
  const pairs = [{ model: "gsm-mini", weight: 1 }];
  const both = await submitted({ generation: generation({ pairs }) });
  await pauseModel(redis, MODEL);
  expect(await takenId("worker_2")).toBeNull();
  await resumeModel(redis, MODEL);
  await pauseModel(redis, "gsm-mini");
  expect([...(await pausedModels(redis)).keys()]).toEqual(["gsm-mini"]);
  expect(await takenId("worker_3")).toBe(lost);
  expect(await takenId("worker_4")).toBeNull();
  await resumeModel(redis, "gsm-mini");
  expect(await takenId("worker_5")).toBe(both);
});

test("a model can be paused when Redis is full", async () => {
  await redis.config("SET", "maxmemory", "1");
  await pauseModel(redis, MODEL);
  expect((await pausedModels(redis)).has(MODEL)).toBe(true);
  await redis.config("SET", "maxmemory", "0");
});

test("the running jobs name the worker that has them; of those whose worker was lost there is none", async () => {
  const [held, lost] = [await submitted(), await submitted()];
  await submitted();
  await takenId("worker_1");
  await takenId("worker_2", 0);
  const { jobs, more } = await runningJobs(redis);
  expect(more).toBe(0);
  expect(new Map(jobs.map(({ id, workerId }) => [id, workerId]))).toEqual(
    new Map([
      [held, "worker_1"],
      [lost, null],
    ]),
  );
  expect(jobs[0]).toMatchObject({ tenant: "acme", model: MODEL, attempt: 1 });
});
