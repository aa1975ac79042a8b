/**
 * A worker process: load and check the models, announce them, consume jobs, deliver webhooks, run batches, drain on SIGTERM.
 * The engine has its own thread; everything here must never wait for it.
 */
import { setTimeout } from "node:timers/promises";
import { Queue } from "bullmq";
import { Announcer } from "../shared/announcer.ts";
import { newId } from "../shared/api-key.ts";
import { bucketOf } from "../shared/bucket.ts";
import { FairQueue } from "../shared/fair-queue.ts";
import { JobStore } from "../shared/job-store.ts";
import {
  DELIVERY_QUEUE,
  GENERATION_QUEUE,
  MODELS_KEY,
  QUEUE_PREFIX,
} from "../shared/redis-keys.ts";
import { startBatcher } from "./batcher.ts";
import { startConsumer } from "./consumer.ts";
import { startDeliverer } from "./deliverer.ts";
import { EngineClient } from "./engine/client.ts";
import { readEnv, type WorkerEnv } from "./env.ts";
import { startHealth } from "./health.ts";
import { createLog } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { PaceKeeper, startTelling } from "./pace.ts";
import { watchQueues } from "./queue-figures.ts";
import { connect } from "./redis.ts";
import { startPermits } from "./permits.ts";
import { startSweeper } from "./sweeper.ts";
import { startTracing } from "./tracing.ts";

/** What the last spans get, when the collector is away. */
const TRACING_MS = 2_000;

const env = orExit("configuration", () => readEnv(process.env));
const log = createLog(env.LOG_LEVEL);
await start(env).catch((error: unknown) => {
  log.fatal(error instanceof Error ? error.message : String(error));
  process.exit(1);
});

async function start(env: WorkerEnv): Promise<void> {
  const startedMs = Date.now();
  const metrics = new Metrics();
  const cacheBytesMax = env.KV_CACHE_MIB * 2 ** 20;
  metrics.limits({ slots: env.SLOTS, cacheBytesMax });
  const stopTracing = env.OTEL_EXPORTER_OTLP_ENDPOINT ? startTracing() : async () => {};
  const engine = await EngineClient.start(
    {
      manifestFile: env.TRIMTAB_MODELS,
      intraOpThreads: env.INTRA_OP_THREADS,
      executionProvider: env.EXECUTION_PROVIDER,
      cacheBytesMax,
      prefixBytesMax: env.PREFIX_CACHE_MIB * 2 ** 20,
    },
    (error) => {
      // Its jobs are taken over by the next worker, or by this one after its restart.
      log.fatal({ err: error }, "the engine thread died");
      process.exit(1);
    },
    (figures) => metrics.add(figures),
  );
  for (const warning of engine.warnings) log.warn(warning);
  const redis = connect(env.REDIS_URL, log);
  const store = new JobStore(redis, env.RESULT_TTL_SECONDS * 1000);
  const deliveries = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  deliveries.on("error", (error) => log.warn({ reason: error.message }, "delivery queue"));
  const generations = new Queue(GENERATION_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  generations.on("error", (error) => log.warn({ reason: error.message }, "generation queue"));
  const cards = engine.cards.flatMap((card) => [card.id, JSON.stringify(card)]);
  await redis.hset(MODELS_KEY, ...cards);

  let draining = false;
  const isReady = () => !draining && redis.status === "ready";
  if (env.HEALTH_PORT) await startHealth(env.HEALTH_PORT, isReady, metrics.registry);
  const announcer = new Announcer(redis, deliveries);
  const queue = new FairQueue(redis);
  const shared = { connection: redis, store, announcer, log, lockMs: env.LOCK_MS };
  const pace = new PaceKeeper(env.SLOTS);
  const stopTelling = startTelling(pace, newId("worker"), redis, log);
  const consumer = startConsumer({
    ...shared,
    queue,
    pace,
    engine,
    attemptsMax: env.ATTEMPTS_MAX,
    slots: env.SLOTS,
    metrics,
  });
  const deliverer = startDeliverer({ ...shared, metrics, sending: { allowed: env.WEBHOOK_ALLOW } });
  const batcher = startBatcher({
    ...shared,
    bucket: bucketOf(env),
    webhookAllow: env.WEBHOOK_ALLOW,
    openLinesMax: env.BATCH_LINES,
  });
  const stopSweeper = startSweeper(shared);
  const stopPermits = startPermits({ queue, generations, log });
  const stopQueues = watchQueues({ ...shared, tell: (figures) => metrics.queue(figures) });
  const consumers = [consumer, deliverer, batcher];
  await Promise.all(consumers.map((each) => each.waitUntilReady()));
  const models = engine.cards.map(({ id }) => id);
  log.info({ models, slots: env.SLOTS, ms: Date.now() - startedMs }, "ready");

  const drain = async (signal: string) => {
    if (draining) return;
    draining = true;
    log.info({ signal, seconds: env.DRAIN_SECONDS }, "draining");
    stopSweeper();
    stopTelling();
    stopPermits();
    stopQueues();
    const drained = Promise.all(consumers.map((each) => each.close()));
    // Whatever is still running afterwards is taken over from its log by another worker.
    await Promise.race([drained, setTimeout(env.DRAIN_SECONDS * 1000)]);
    await engine.close();
    await Promise.race([stopTracing(), setTimeout(TRACING_MS)]);
    process.exit(0);
  };
  process.on("SIGTERM", (signal) => void drain(signal));
  process.on("SIGINT", (signal) => void drain(signal));
}

function orExit<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    process.stderr.write(`${what}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
