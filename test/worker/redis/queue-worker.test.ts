/** BullMQ's workers while Redis refuses commands. */
import { Queue } from "bullmq";
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { TAG } from "../../../shared/redis/keys.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { startQueueWorker } from "../../../worker/redis/queue-worker.ts";

test("while Redis is full, a worker asks for work about once a second, and goes on when there is room", async () => {
  const log = pino({ level: "silent" });
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const redis = connectRedis(server.url, log);
  onTestFinished(() => redis.disconnect());
  const queue = new Queue("test", { connection: redis, prefix: TAG });
  await queue.add("first", {});
  await redis.config("SET", "maxmemory", 1);
  const done: string[] = [];
  const process = async ({ name }: { name: string }) => void done.push(name);
  const options = { connection: redis, concurrency: 256, lockMs: 60_000, log };
  const worker = startQueueWorker("test", process, options);
  onTestFinished(() => worker.close());
  const times: number[] = [];
  worker.on("error", () => void times.push(performance.now()));
  await vi.waitUntil(() => times.length >= 4, 30_000);
  // The third error follows the first one after at least one pause, whatever the machine's speed.
  for (let i = 2; i < times.length; i++) expect(times[i]! - times[i - 2]!).toBeGreaterThan(500);
  expect(done).toEqual([]);
  await redis.config("SET", "maxmemory", 0);
  await vi.waitUntil(() => done.length > 0, 30_000);
});

test("a worker takes nothing while it must pause, from its start on", async () => {
  const log = pino({ level: "silent" });
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const redis = connectRedis(server.url, log);
  onTestFinished(() => redis.disconnect());
  const queue = new Queue("test", { connection: redis, prefix: TAG });
  await queue.add("first", {});
  const takenWhilePaused: boolean[] = [];
  let isPaused = true;
  let asked = 0;
  const worker = startQueueWorker("test", async () => void takenWhilePaused.push(isPaused), {
    connection: redis,
    concurrency: 2,
    lockMs: 60_000,
    log,
    isPaused: () => {
      asked++;
      return isPaused;
    },
  });
  onTestFinished(() => worker.close());
  await vi.waitUntil(() => asked >= 4, 30_000);
  isPaused = false;
  await vi.waitUntil(() => takenWhilePaused.length > 0, 30_000);
  isPaused = true;
  await vi.waitUntil(() => worker.isPaused(), 30_000);
  await queue.add("second", {});
  const before = asked;
  await vi.waitUntil(() => asked >= before + 2, 30_000);
  expect(takenWhilePaused).toEqual([false]);
});
