import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { startRedis } from "../../infra/stack/redis.ts";
import { DELIVERY_QUEUE, GENERATION_QUEUE, QUEUE_PREFIX } from "../../shared/redis-keys.ts";
import { watchQueues, type QueueFigures } from "../../worker/queue-figures.ts";

test("tells how many wait in each queue, and for how long the first of them has done so", async () => {
  const server = await startRedis();
  const connection = new Redis(server.url, { maxRetriesPerRequest: null });
  const queueOf = (name: string) => new Queue(name, { connection, prefix: QUEUE_PREFIX });
  const timestamp = Date.now() - 90_000;
  await queueOf(GENERATION_QUEUE).add("old", {}, { timestamp });
  await queueOf(GENERATION_QUEUE).add("new", {});
  await queueOf(DELIVERY_QUEUE).add("later", {}, { delay: 60_000 });

  const told = new Map<string, QueueFigures>();
  const tell = (figures: QueueFigures) => void told.set(figures.queue, figures);
  const stop = watchQueues({ connection, log: pino({ level: "silent" }), tell });
  await vi.waitUntil(() => told.size === 3);
  stop();
  const none = { waiting: 0, delayed: 0, active: 0, ageSeconds: 0 };
  const age = told.get("generate")!.ageSeconds;
  expect(told.get("generate")).toEqual({ ...none, queue: "generate", waiting: 2, ageSeconds: age });
  expect(age).toBeGreaterThanOrEqual(90);
  expect(told.get("deliver")).toEqual({ ...none, queue: "deliver", delayed: 1 });
  expect(told.get("expand")).toEqual({ ...none, queue: "expand" });
  connection.disconnect();
  await server.stop();
});
