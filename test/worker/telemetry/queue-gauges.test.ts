import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { laneCounts, type LaneCounts } from "../../../shared/queue/lane-counts.ts";
import {
  DELIVERY_QUEUE,
  FLOW_QUEUE_PREFIX,
  jobKey,
  LANE_COUNTS_LEASE_KEY,
  LANES_KEY,
  MODELS_KEY,
  NAME_SEPARATOR,
  TAG,
  WAITING_FLOWS_PREFIX,
  WAITING_JOBS_KEY,
} from "../../../shared/redis/keys.ts";
import { pauseModel } from "../../../shared/workers/model-pauses.ts";
import { watchQueueGauges, type QueueGauges } from "../../../worker/telemetry/queue-gauges.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

test("the gauges of a queue hold its counts over all lanes and the age of the oldest waiting entry", async () => {
  const server = await startRedis();
  const connection = new Redis(server.url, { maxRetriesPerRequest: null });
  const store = new JobStore(connection, 60_000);
  const [old, running] = [newJob(), newJob()];
  const other = newJob({ generation: generation({ model: "gsm-mini" }) });
  for (const job of [old, running, other]) await store.submit(job);
  // A job that combines two models needs both, and the age of a batch says nothing.
  const pairs = [{ model: "gsm-mini", weight: 1, maskBound: 0 }];
  const both = newJob({ generation: generation({ pairs }) });
  const batched = newJob({
    generation: generation({ model: "batched" }),
    requestOptions: { batch: "batch_1" },
  });
  for (const job of [both, batched]) await store.submit(job);
  await connection.hset(jobKey(other.id), { createdAtMs: Date.now() - 30_000 });
  await connection.hset(jobKey(batched.id), { createdAtMs: Date.now() - 90_000 });
  await connection.hset(MODELS_KEY, { unused: "{}" });
  await connection.zincrby(WAITING_JOBS_KEY, -90_000, old.id);
  await claimJob(connection, running.id);
  const deliveries = new Queue(DELIVERY_QUEUE, { connection, prefix: TAG });
  await deliveries.add("later", {}, { delay: 60_000 });

  const gauges = new Map<string, QueueGauges>();
  const onGauges = (read: QueueGauges) => void gauges.set(read.queue, read);
  let models = new Map<string, LaneCounts>();
  const stop = watchQueueGauges({
    connection,
    log: pino({ level: "silent" }),
    onGauges,
    onModels: (read) => (models = new Map(read)),
  });
  await vi.waitUntil(() => gauges.size === 3 && models.size > 0);
  stop();
  const none = { waiting: 0, delayed: 0, active: 0, ageSeconds: 0 };
  const age = gauges.get("jobs")!.ageSeconds;
  expect(gauges.get("jobs")).toEqual({
    queue: "jobs",
    waiting: 4,
    delayed: 0,
    active: 1,
    ageSeconds: age,
  });
  expect(models.get("atlas-qa")).toMatchObject({ waiting: 2, running: 1 });
  expect(models.get("gsm-mini")).toMatchObject({ waiting: 2, running: 0 });
  expect(models.get("gsm-mini")!.ageSeconds).toBeGreaterThanOrEqual(29);
  expect(models.get("batched")).toEqual({ waiting: 1, running: 0, ageSeconds: 0 });
  expect(models.get("unused")).toEqual({ waiting: 0, running: 0, ageSeconds: 0 });
  // Redis's time is read in whole seconds.
  expect(age).toBeGreaterThanOrEqual(89);
  expect(gauges.get("deliver")).toEqual({ ...none, queue: "deliver", delayed: 1 });
  expect(gauges.get("batch-steps")).toEqual({ ...none, queue: "batch-steps" });
  connection.disconnect();
  await server.stop();
});

test("one process counts the jobs of lanes, others use its counts, and jobs of a paused model count only while they run", async () => {
  const server = await startRedis();
  const connection = new Redis(server.url, { maxRetriesPerRequest: null });
  const store = new JobStore(connection, 60_000);
  const [first, second] = [newJob(), newJob()];
  for (const job of [first, second]) await store.submit(job);
  // More tenants than one script reads.
  const tenants = Array.from({ length: 2_500 }, (_, i) => `tenant-${i}`);
  const writing = connection.pipeline().sadd(LANES_KEY, "large");
  for (const tenant of tenants) {
    writing.zadd(`${WAITING_FLOWS_PREFIX}large`, 0, tenant);
    writing.zadd(`${FLOW_QUEUE_PREFIX}large${NAME_SEPARATOR}${tenant}`, 1, `job-${tenant}`);
  }
  await writing.exec();
  await connection.hset(jobKey("job-tenant-2000"), { createdAtMs: Date.now() - 30_000 });

  const counts = await laneCounts(connection);
  expect(counts!.get("atlas-qa")).toMatchObject({ waiting: 2, running: 0 });
  expect(counts!.get("large")).toMatchObject({ waiting: 2_500, running: 0 });
  expect(counts!.get("large")!.ageSeconds).toBeGreaterThanOrEqual(29);

  // As while another process counts.
  await connection.set(LANE_COUNTS_LEASE_KEY, "1");
  await claimJob(connection, first.id);
  await pauseModel(connection, "atlas-qa");
  expect(await laneCounts(connection)).toEqual(counts);

  await connection.del(LANE_COUNTS_LEASE_KEY);
  // Workers must start and stop also when Redis is full.
  await connection.config("SET", "maxmemory", "1");
  const none = { waiting: 0, ageSeconds: 0 };
  expect((await laneCounts(connection))!.get("atlas-qa")).toEqual({ ...none, running: 1 });
  connection.disconnect();
  await server.stop();
});
