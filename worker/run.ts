/**
 * Runs the roles of a worker process, in this order:
 *
 * 1. starts the server for probes and metrics, and begins to connect to Redis;
 * 2. with the role `generate` starts the prepare and the engine thread, which load and check the models (generation.ts);
 * 3. sets its clock by Redis, and starts its parts: generation.ts (jobs), services.ts (webhooks, batches, sweeper);
 * 4. on SIGTERM or SIGINT stops taking work, waits up to DRAIN_SECONDS for running work to end, and exits. A signal during the
 *    start has the same effect on the parts that have started.
 *
 * The main thread must never block on the engine: it renews the leases of running jobs.
 */
import { setTimeout } from "node:timers/promises";
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { AggregatorRegistry } from "prom-client";
import packageJson from "../package.json" with { type: "json" };
import type { JobRecord } from "../shared/jobs/record.ts";
import { JobStore } from "../shared/jobs/store.ts";
import { jobSources, readJob } from "../shared/protocols/job-reply.ts";
import { DELIVERY_QUEUE, QUEUE_PREFIX } from "../shared/redis/keys.ts";
import { checkServer } from "../shared/redis/server-check.ts";
import { WebhookPublisher } from "../shared/webhooks/publisher.ts";
import type { WorkerEnv } from "./env.ts";
import type { StartedEngine } from "./generation.ts";
import type { Part } from "./part.ts";
import type { GeneratingProcess } from "./processes/generating-process.ts";
import { answerParentProcess, reportStarted } from "./processes/parent-process.ts";
import { startClock, type WatchedClock } from "./redis/clock.ts";
import { connectRedis, isAnswering, whenReady } from "./redis/connection.ts";
import { startHealthServer } from "./telemetry/health.ts";
import { Metrics } from "./telemetry/metrics.ts";
import { startTracing } from "./telemetry/tracing.ts";

/** Longest wait at exit for the last spans to be sent: the trace collector may not answer. */
const TRACING_STOP_MS = 2_000;
const STARTING = "The worker starts";

/**
 * Starts the parts, and ends the process after a signal.
 * @param child the process that generates; null if this one does, or if none does
 * @param stop aborted by the signal to end, perhaps before the call
 * @throws Error with the reason if it cannot start
 */
export async function run(
  env: WorkerEnv,
  log: Logger,
  child: GeneratingProcess | null,
  stop: AbortSignal,
): Promise<void> {
  const startedMs = performance.now();
  const metrics = new Metrics({ version: packageJson.version, commit: env.BUILD_COMMIT });
  const stopTracing = env.OTEL_EXPORTER_OTLP_ENDPOINT ? startTracing() : async () => {};
  const redis = connectRedis(env.REDIS_URL, log, env);
  let clock: WatchedClock | null = null;
  let isStarted = false;
  /** How far the loading of models is, in words. */
  let loading = () => "";
  let started: StartedEngine | null = null;
  /** The parts that have started. */
  const parts: Part[] = child === null ? [] : [child];

  endOnStop(stop, parts, { seconds: env.DRAIN_SECONDS, log, stopTracing });

  const ownProblem = () => {
    if (stop.aborted) return "The worker drains";
    if (!isAnswering(redis)) return "Redis does not answer";
    if (clock?.problem) return clock.problem;
    if (!isStarted) return loading() === "" ? STARTING : `${STARTING}. ${loading()}`;
    const models = started?.engine.cards.length ?? 0;
    return models > 0 && models === started!.away.reasons.size
      ? "The bases of all models are away"
      : null;
  };
  const ownAway = () => Object.fromEntries(started?.away.reasons ?? []);
  answerParentProcess(async (withMetrics) => ({
    problem: ownProblem(),
    away: ownAway(),
    metrics: withMetrics ? await metrics.registry.getMetricsAsJSON() : [],
  }));
  if (env.HEALTH_PORT) {
    await startHealthServer(env.HEALTH_PORT, {
      state: async () => {
        const state = await child?.state(false);
        return {
          problem: problemOf(ownProblem(), state?.problem ?? null),
          away: state?.away ?? ownAway(),
        };
      },
      metrics: async () => {
        if (child === null) return metrics.registry.metrics();
        const own = await metrics.registry.getMetricsAsJSON();
        return AggregatorRegistry.aggregate([own, (await child.state(true)).metrics]).metrics();
      },
    });
  }

  const generates = env.ROLES.has("generate") && child === null;
  // Each process loads only the modules of its roles: they take longer to load than anything else but models.
  const generation = generates ? await import("./generation.ts") : null;
  const onLoading = (text: () => string) => (loading = text);
  started = generation ? await generation.startEngine(env, { log, metrics, onLoading }) : null;
  await requireUsable(redis, env.REDIS_URL, log);
  clock = await startClock(redis, log);
  const store = new JobStore(redis, env.RESULT_TTL_SECONDS * 1000, env.STORED_MIB);
  const deliveries = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  deliveries.on("error", (error) => log.warn({ reason: error.message }, "Delivery queue error"));
  const sources = jobSources(redis, store);
  const deps = {
    connection: redis,
    clock,
    store,
    publisher: new WebhookPublisher(redis, deliveries),
    readJob: (record: JobRecord) => readJob(record, sources),
    log,
    metrics,
    lockMs: env.LOCK_MS,
  };
  const hasServices = [...env.ROLES].some((role) => role !== "generate");
  const services = hasServices ? await import("./services.ts") : null;
  // A part that starts now would not be drained.
  if (stop.aborted) return;
  if (generation && started) parts.push(await generation.startGeneration(env, started, deps));
  if (services) parts.push(...services.startServices(env, deps));
  await Promise.all(parts.map(async (part) => part.ready?.()));
  isStarted = true;
  reportStarted();
  const roles = [...env.ROLES].filter((role) => child === null || role !== "generate");
  const models = started?.engine.cards.map(({ id }) => id);
  const ms = Math.round(performance.now() - startedMs);
  log.info({ roles, ...(models && { models, slots: env.SLOTS }), ms }, "Worker ready");
}

/** Waits for Redis. @throws Error if the server cannot hold the data */
async function requireUsable(redis: Redis, url: string, log: Logger): Promise<void> {
  await whenReady(redis);
  const { refusal, warning } = await checkServer(redis, url);
  if (refusal !== null) throw new Error(refusal);
  if (warning !== null) log.warn(warning);
}

interface EndOptions {
  /** Time for the drain. */
  readonly seconds: number;
  readonly log: Logger;
  readonly stopTracing: () => Promise<unknown>;
}

/** While this process starts, the one that generates says how far it is. */
const problemOf = (own: string | null, ofChild: string | null) =>
  own === null || (own === STARTING && ofChild !== null) ? ofChild : own;

/** Ends the process when `stop` is aborted. @param parts those that have started by then are stopped first */
function endOnStop(stop: AbortSignal, parts: readonly Part[], options: EndOptions): void {
  const { seconds, log, stopTracing } = options;
  const report = (error: unknown) =>
    log.error({ err: error }, "A part of the worker could not be stopped");
  const drain = async () => {
    const drained = Promise.all(parts.map((part) => part.close())).catch(report);
    // Another worker continues the jobs that still run then, from their event logs.
    await Promise.race([drained, setTimeout(seconds * 1000)]);
    for (const part of parts) await part.end?.().catch(report);
    await Promise.race([stopTracing(), setTimeout(TRACING_STOP_MS)]);
  };
  const end = () => {
    log.info(
      { signal: stop.reason as string, seconds },
      "Draining: the worker takes no new work, and exits when its running work has ended",
    );
    // If nothing runs: at once, because the start would go on meanwhile.
    if (parts.length === 0) process.exit(0);
    drain()
      .catch(report)
      .finally(() => process.exit(0));
  };
  if (stop.aborted) end();
  else stop.addEventListener("abort", end);
}
