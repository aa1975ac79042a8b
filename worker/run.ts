/**
 * Runs the roles of a worker process, in this order:
 *
 * 1. starts the server for probes and metrics, and begins to connect to Redis;
 * 2. with the role `generate` starts the prepare and the engine thread, which load and check the models (generation.ts);
 * 3. for each shard sets a clock by Redis, and starts its parts: generation.ts (jobs), services.ts (webhooks, batches, sweeper);
 * 4. on SIGTERM or SIGINT stops taking work, waits up to DRAIN_SECONDS for running work to end, and exits. A signal during the
 *    start has the same effect on the parts that have started.
 *
 * The main thread must never block on the engine: it renews the leases of running jobs.
 */
import type { Logger } from "pino";
import { AggregatorRegistry } from "prom-client";
import packageJson from "../package.json" with { type: "json" };
import { endOnStop } from "./end-on-stop.ts";
import type { WorkerEnv } from "./env.ts";
import type { Generation, StartedEngine } from "./generation.ts";
import type { Part } from "./part.ts";
import type { GeneratingProcess } from "./processes/generating-process.ts";
import type { LoadingReport } from "./loading-report.ts";
import { answerParentProcess, reportStarted } from "./processes/parent-process.ts";
import { WorkerShard } from "./shard.ts";
import { startShards } from "./shard-starts.ts";
import { startHealthServer } from "./telemetry/health.ts";
import { Metrics } from "./telemetry/metrics.ts";
import { QueueSums } from "./telemetry/queue-sums.ts";
import { startTracing } from "./telemetry/tracing.ts";

const STARTING = "The worker starts";

export interface RunContext {
  /** The process that generates; null if this one does, or if none does. */
  readonly child: GeneratingProcess | null;
  /** Aborted by the signal to end, perhaps before the call. */
  readonly stop: AbortSignal;
  /** The manifest that a lost process served before this one; null for that of the file. */
  readonly manifestText: string | null;
}

/**
 * Starts the parts, and ends the process after a signal.
 * @throws Error with the reason if it cannot start
 */
export async function run(
  env: WorkerEnv,
  log: Logger,
  { child, stop, manifestText }: RunContext,
): Promise<void> {
  const startedMs = performance.now();
  const metrics = new Metrics({ version: packageJson.version, commit: env.BUILD_COMMIT });
  const stopTracing = env.OTEL_EXPORTER_OTLP_ENDPOINT ? startTracing() : async () => {};
  const shards = WorkerShard.connectAll(env, log);
  let isStarted = false;
  let loading: LoadingReport | null = null;
  let started: StartedEngine | null = null;
  let startingEngine: Promise<StartedEngine> | null = null;
  /** The parts that have started. */
  const parts: Part[] = child === null ? [] : [child];

  const starting = () => (loading?.isDownloading ? null : startingEngine);
  endOnStop(stop, parts, { seconds: env.DRAIN_SECONDS, log, stopTracing, starting });

  const shardProblems = () => shards.flatMap(({ problem }) => problem ?? []);
  /** The problems of some shards, while others are served. */
  const awayShards = () => {
    const problems = shardProblems();
    return problems.length < shards.length ? problems : [];
  };
  const ownProblem = () => {
    if (stop.aborted) return "The worker drains";
    const ofShards = shardProblems();
    if (ofShards.length === shards.length) return ofShards[0]!;
    if (!isStarted) return [STARTING, loading?.text()].filter(Boolean).join(". ");
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
          problems: awayShards(),
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
  const onLoading = (report: LoadingReport) => (loading = report);
  startingEngine = generation?.startEngine(env, { log, metrics, onLoading, manifestText }) ?? null;
  started = await startingEngine;
  const hasServices = [...env.ROLES].some((role) => role !== "generate");
  const services = hasServices ? await import("./services.ts") : null;
  const gauges = new QueueSums(metrics);
  let generating: Generation | null = null;
  const startParts = async (shard: WorkerShard) => {
    const deps = await shard.open(metrics);
    // A part that starts now would not be drained.
    if (stop.aborted) return;
    if (generation && started && generating === null) {
      generating = new generation.Generation(env, started, log);
      parts.push(generating);
    }
    const own = services?.startServices(env, deps, gauges) ?? [];
    parts.push(...own);
    await Promise.all([generating?.startShard(deps), ...own.map(async (part) => part.ready?.())]);
  };
  await Promise.all([startShards(shards, startParts), child?.ready()]);
  if (stop.aborted) return;
  isStarted = true;
  reportStarted();
  const roles = [...env.ROLES].filter((role) => child === null || role !== "generate");
  const models = started?.engine.cards.map(({ id }) => id);
  const ms = Math.round(performance.now() - startedMs);
  log.info({ roles, ...(models && { models, slots: env.SLOTS }), ms }, "Worker ready");
}

/** While this process starts, the one that generates says how far it is. */
const problemOf = (own: string | null, ofChild: string | null) =>
  own === null || (own === STARTING && ofChild !== null) ? ofChild : own;
