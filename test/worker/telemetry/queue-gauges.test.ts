import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { DELIVERY_QUEUE, QUEUE_PREFIX, WAITING_JOBS_KEY } from "../../../shared/redis/keys.ts";
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
  await connection.zincrby(WAITING_JOBS_KEY, -90_000, old.id);
  await claimJob(connection, running.id);
  const deliveries = new Queue(DELIVERY_QUEUE, { connection, prefix: QUEUE_PREFIX });
  await deliveries.add("later", {}, { delay: 60_000 });

  const gauges = new Map<string, QueueGauges>();
  const onGauges = (read: QueueGauges) => void gauges.set(read.queue, read);
  const stop = watchQueueGauges({ connection, log: pino({ level: "silent" }), onGauges });
  await vi.waitUntil(() => gauges.size === 3);
  stop();
  const none = { waiting: 0, delayed: 0, active: 0, ageSeconds: 0 };
  const age = gauges.get("jobs")!.ageSeconds;
  expect(gauges.get("jobs")).toEqual({
    queue: "jobs",
    waiting: 2,
    delayed: 0,
    active: 1,
    ageSeconds: age,
  });
  // Redis's time is read in whole seconds.
  expect(age).toBeGreaterThanOrEqual(89);
  expect(gauges.get("deliver")).toEqual({ ...none, queue: "deliver", delayed: 1 });
  expect(gauges.get("batch-steps")).toEqual({ ...none, queue: "batch-steps" });
  connection.disconnect();
  await server.stop();
});
