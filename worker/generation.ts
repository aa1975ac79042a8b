/** The role `generate`: the engine, the job consumer, and the heartbeat that tells Redis what this process serves. */
import packageJson from "../package.json" with { type: "json" };
import { newId } from "../shared/ids.ts";
import { commandsOf } from "../shared/redis/tags.ts";
import { EngineClient } from "./engine-client/client.ts";
import type { WorkerEnv } from "./env.ts";
import { startJobConsumer, type JobConsumer } from "./jobs/consumer.ts";
import { endIfRefused } from "./jobs/prompt-check.ts";
import { TokenizerRequests } from "./jobs/tokenizer-requests.ts";
import { AwayModels } from "./jobs/away-models.ts";
import { EngineMeter } from "./jobs/engine-meter.ts";
import { startHeartbeat } from "./jobs/heartbeat.ts";
import { Slots } from "./jobs/slots.ts";
import { ThroughputMeter } from "./jobs/throughput.ts";
import { LoadingReport } from "./loading-report.ts";
import { ManifestWatch } from "./manifest-watch.ts";
import type { Part, PartDeps } from "./part.ts";
import { keepForReplacement, killThisProcess } from "./processes/parent-process.ts";
import type { Logger } from "pino";
import type { Metrics } from "./telemetry/metrics.ts";

/** Longest wait at exit for the engine's step. */
const ENGINE_CLOSE_MS = 3_000;
/** Time for a last line to be written before the process is killed. */
const LOG_MS = 200;

/** An engine, and those of its models that it cannot serve now. */
export interface StartedEngine {
  readonly engine: EngineClient;
  readonly away: AwayModels;
  readonly engineMeter: EngineMeter;
  readonly metrics: Metrics;
}

/** Loads and checks the models. It needs no Redis. @throws Error with the reason if an ensemble cannot be served */
export async function startEngine(
  env: WorkerEnv,
  {
    log,
    metrics,
    onLoading,
    manifestText,
  }: {
    readonly log: Logger;
    readonly metrics: Metrics;
    /** Called when the loading begins. */
    readonly onLoading: (report: LoadingReport) => void;
    /** That with which it starts; null for that of the file. */
    readonly manifestText: string | null;
  },
): Promise<StartedEngine> {
  const cacheBytesMax = env.KV_CACHE_MIB * 2 ** 20;
  const prefixBytesMax = env.PREFIX_CACHE_MIB * 2 ** 20;
  const engineMeter = new EngineMeter({ cacheBytesMax, prefixBytesMax });
  metrics.setLimits({ slots: env.SLOTS, cacheBytesMax });
  const loading = new LoadingReport(log);
  onLoading(loading);
  const engine = await EngineClient.start(
    {
      manifestFile: env.TRIMTAB_MODELS,
      ...(manifestText !== null && { manifestText }),
      intraOpThreads: env.INTRA_OP_THREADS,
      executionProvider: env.EXECUTION_PROVIDER,
      cacheBytesMax,
      prefixBytesMax,
      preparedFolder: env.PREPARED_FOLDER,
      pullsModels: env.PULL_MODELS,
    },
    (error) => {
      // Other workers take over this process's jobs, or this worker does after its restart.
      log.fatal({ err: error }, "The engine thread stopped unexpectedly");
      process.exit(1);
    },
    (stats) => {
      metrics.addEngineStats(stats);
      engineMeter.add(stats);
    },
    (progress) => loading.update(progress),
  ).finally(() => loading.close());
  metrics.setModels(engine.cards);
  for (const warning of engine.warnings) log.warn(warning);
  const away = new AwayModels(log);
  const setBases = (bases: typeof engine.bases) => {
    away.update(bases);
    metrics.setRemoteBases(bases);
  };
  setBases(engine.bases);
  engine.onBases = setBases;
  return { engine, away, engineMeter, metrics };
}

/** Takes jobs of all shards and runs them in one engine. */
export class Generation implements Part {
  readonly #env: WorkerEnv;
  readonly #started: StartedEngine;
  readonly #log: Logger;
  readonly #workerId = newId("worker");
  readonly #throughput: ThroughputMeter;
  readonly #slots: Slots;
  #isDraining = false;
  #isClosed = false;
  readonly #consumers: JobConsumer[] = [];
  readonly #stops: (() => void)[] = [];
  readonly #manifest: ManifestWatch;

  constructor(env: WorkerEnv, started: StartedEngine, log: Logger) {
    this.#env = env;
    this.#started = started;
    this.#log = log;
    this.#throughput = new ThroughputMeter(env.SLOTS);
    this.#slots = new Slots(env.SLOTS);
    const { engine, metrics } = started;
    keepForReplacement(engine.manifestText);
    this.#manifest = new ManifestWatch({
      file: env.TRIMTAB_MODELS,
      changes: engine.changes,
      serve: () => this.#serve(),
      onFollowed: keepForReplacement,
      log,
      metrics,
    });
    // It may have changed while the models were loaded; a replacement has started with the one that was served.
    void this.#manifest.read();
    engine.watchProgress(env.HANG_SECONDS, (thread) => {
      // The leases are not given up: a job that makes engines hang would hang the next one at once, and would never fail.
      log.fatal(
        { thread, seconds: env.HANG_SECONDS, jobs: this.#standing() },
        "A thread makes no progress: the process ends. Its jobs are continued when their leases expire",
      );
      // On a busy machine the line may not be written yet.
      setTimeout(killThisProcess, LOG_MS);
    });
  }

  /** Announces the models in a shard and takes jobs from it. */
  async startShard(deps: PartDeps): Promise<void> {
    const { engine, away, engineMeter } = this.#started;
    const stopHeartbeat = await startHeartbeat({
      ...deps,
      redis: commandsOf(deps.connection),
      workerId: this.#workerId,
      version: packageJson.version,
      engine,
      away,
      throughput: this.#throughput,
      engineMeter,
      onDrain: () => this.#drain(),
    });
    if (this.#isClosed) return stopHeartbeat();
    const jobs = startJobConsumer({
      ...deps,
      workerId: this.#workerId,
      leaseMs: deps.lockMs,
      throughput: this.#throughput,
      engine,
      away,
      served: this.#served(),
      isPaused: () => this.#isDraining || deps.clock.problem !== null,
      attemptsMax: this.#env.ATTEMPTS_MAX,
      slots: this.#slots,
    });
    const tokenizers = new TokenizerRequests({
      ...deps,
      engine,
      checkPrompt: async (id) => jobs.publishEnd(await endIfRefused({ ...deps, engine }, id)),
    });
    this.#consumers.push(jobs);
    this.#stops.push(stopHeartbeat, () => tokenizers.close());
    await jobs.waitUntilReady();
  }

  close(): Promise<unknown> {
    this.#isClosed = true;
    this.#manifest.close();
    for (const stop of this.#stops) stop();
    return Promise.all(this.#consumers.map((jobs) => jobs.close()));
  }

  async end(): Promise<void> {
    await Promise.all(this.#consumers.map((jobs) => jobs.release()));
    const hung = setTimeout(() => {
      const jobs = this.#standing();
      this.#log.error({ jobs }, "A thread does not end: the process is killed");
      killThisProcess();
    }, ENGINE_CLOSE_MS);
    await this.#started.engine.close();
    clearTimeout(hung);
  }

  /** Serves the ensembles that the engine has now. Resolves when no job of another one runs. */
  #serve(): Promise<unknown> {
    const served = this.#served();
    this.#started.metrics.setModels(this.#started.engine.cards);
    return Promise.all(this.#consumers.map((jobs) => jobs.serve(served)));
  }

  #served(): ReadonlyMap<string, string> {
    return new Map(this.#started.engine.cards.map(({ id, fingerprint }) => [id, fingerprint]));
  }

  #standing() {
    return this.#consumers.flatMap((jobs) => jobs.standing());
  }

  #drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#log.info("The operator drains this worker: it takes no more jobs until its process ends");
  }
}
