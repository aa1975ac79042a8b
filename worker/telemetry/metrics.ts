/**
 * All metrics that a worker offers to Prometheus. The dashboard and the alerts (infra/helm/monitoring/) use their names: change both
 * together. No label may contain a tenant, a job or a prompt, because a scrape is not authenticated.
 * The folder telemetry/ owns logs, metrics, spans and health checks. Other folders call it; it never changes what they do.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { DeliveryState } from "../../shared/api/webhooks.ts";
import { isTerminal, JOB_STATES, type JobState } from "../../shared/api/jobs.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import type { EngineStats } from "../engine-client/messages.ts";
import type { LaneCounts } from "../../shared/queue/lane-counts.ts";
import type { QueueGauges } from "./queue-gauges.ts";

/** Bucket bounds: from a step of the small demo models to a long prefill of a large model on a CPU. */
const STEP_BUCKETS_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const FIRST_TOKEN_BUCKETS_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
/** The same with the time in the queue. */
const WAIT_BUCKETS_SECONDS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
/** Jobs of batches may wait up to a day. */
const QUEUE_BUCKETS_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400];

/**
 * On all metrics of jobs: an ensemble, and the start of the fingerprint of its base, by which ensembles on the same base can be added. The
 * base is empty if this process does not serve the model.
 */
const MODEL = ["model", "base"];
const BASE_CHARS = 12;
const MANIFEST_RESULTS = ["applied", "unchanged", "refused", "failed"] as const;
const DELIVERY_STATES: readonly DeliveryState[] = ["delivered", "pending", "failed"];

/** Shown by `trimtab_build_info`. */
export interface BuildInfo {
  readonly version: string;
  readonly commit: string;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #bases = new Map<string, string>();
  readonly #counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #histogram = (
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly string[] = [],
  ) =>
    new Histogram({
      name: `trimtab_${name}`,
      help,
      buckets,
      labelNames,
      registers: [this.registry],
    });

  readonly #promptTokens = this.#counter(
    "prompt_tokens_total",
    "Prompt tokens of all jobs, counted by the base model's tokenizer",
    ...MODEL,
  );
  readonly #cachedTokens = this.#counter(
    "prompt_tokens_cached_total",
    "Prompt tokens served from the prefix cache, without prefill",
    ...MODEL,
  );
  readonly #generatedTokens = this.#counter(
    "generated_tokens_total",
    "Tokens generated for all jobs",
    ...MODEL,
  );
  readonly #draftedTokens = this.#counter(
    "drafted_tokens_total",
    "Drafted tokens that were verified in speculative decoding, by drafter (expert, lookup or base)",
    "drafter",
    ...MODEL,
  );
  readonly #acceptedTokens = this.#counter(
    "accepted_tokens_total",
    "Drafted tokens that were accepted in speculative decoding, by drafter (expert, lookup or base)",
    "drafter",
    ...MODEL,
  );
  readonly #jobsEnded = this.#counter(
    "jobs_ended_total",
    "Jobs that ended, by terminal state",
    "state",
    ...MODEL,
  );
  readonly #attemptsFailed = this.#counter(
    "attempts_failed_total",
    "Attempts at a job that failed with an error. The job is tried again unless it was its last attempt",
    ...MODEL,
  );
  readonly #takeovers = this.#counter(
    "takeovers_total",
    "Jobs taken over from a lost worker",
    ...MODEL,
  );
  readonly #webhookAttempts = this.#counter(
    "webhook_attempts_total",
    "Attempts to deliver a webhook, by the state of the delivery afterwards (delivered, pending, failed)",
    "state",
  );
  readonly #queueJobs = this.#gauge(
    "queue_jobs",
    "Entries in a queue that all workers share, by queue (jobs: generations, deliver: webhooks, batch-steps: batches of requests) and state",
    "queue",
    "state",
  );
  readonly #queueAgeSeconds = this.#gauge(
    "queue_age_seconds",
    "Age of the oldest waiting entry of a queue, in seconds",
    "queue",
  );
  readonly #modelJobs = this.#gauge(
    "model_jobs",
    "Jobs of all workers that need a model, by state (waiting, running); a job that combines models counts for each. For scaling: jobs that wait for a paused model are left out",
    "model",
    "state",
  );
  readonly #modelAgeSeconds = this.#gauge(
    "model_queue_age_seconds",
    "Age of the oldest waiting job that needs a model, in seconds. Of each tenant the job that is next counts; jobs of batches and of paused models do not",
    "model",
  );
  readonly #remoteBaseUp = this.#gauge(
    "remote_base_up",
    "1 if a model's base on another server answers and fits, 0 if this worker's jobs for the model wait for it",
    ...MODEL,
  );
  readonly #slowGraph = this.#gauge(
    "slow_graph",
    "1 for each graph that runs as it was exported, one sequence at a time; slow_graphs of GET /v1/models has the reason",
    ...MODEL,
    "role",
  );
  readonly #manifestReads = this.#counter(
    "manifest_reads_total",
    "Times that the manifest was read again while the worker ran, by result: applied, unchanged, refused (it is wrong or needs a restart), failed (an adapter could not be loaded)",
    "result",
  );
  readonly #slots = this.#gauge("slots", "Jobs that this worker can run at the same time");
  readonly #cacheBytesMax = this.#gauge(
    "kv_cache_bytes_max",
    "Limit of kv_cache_bytes in this worker, in bytes",
  );
  readonly #jobsRunning = this.#gauge("jobs_running", "Jobs that run in this worker's batch now");
  readonly #jobsWaiting = this.#gauge(
    "jobs_waiting",
    "Jobs that this worker has taken and that wait until the KV cache has room",
  );
  readonly #cacheBytes = this.#gauge(
    "kv_cache_bytes",
    "Memory of the KV caches of all models and running jobs, in bytes, without memory of earlier caches that is kept for the next ones",
  );
  readonly #prefixBytes = this.#gauge(
    "prefix_cache_bytes",
    "Memory of the prefix cache (KV cache of earlier prompts), in bytes",
  );
  readonly #stepSeconds = this.#histogram(
    "step_seconds",
    "Duration of one step of the batch, which gives each running job its next token, in seconds",
    STEP_BUCKETS_SECONDS,
  );
  readonly #firstTokenSeconds = this.#histogram(
    "first_token_seconds",
    "Time from a job's arrival in the engine to its first token, in seconds",
    FIRST_TOKEN_BUCKETS_SECONDS,
    MODEL,
  );
  readonly #queueSeconds = this.#histogram(
    "queue_seconds",
    "Time from a job's submission until a worker first claims it, in seconds",
    QUEUE_BUCKETS_SECONDS,
    MODEL,
  );

  readonly #waitSeconds = this.#histogram(
    "time_to_first_token_seconds",
    "Time from the submission of a job that is not part of a batch to its first token, in seconds",
    WAIT_BUCKETS_SECONDS,
    MODEL,
  );

  constructor({ version, commit }: BuildInfo) {
    collectDefaultMetrics({ register: this.registry });
    const buildInfo = new Gauge({
      name: "trimtab_build_info",
      help: "Always 1; the labels name the release and its commit",
      labelNames: ["version", "commit", "node"],
      registers: [this.registry],
      // The generating process and its parent report it both.
      aggregator: "first",
    });
    buildInfo.set({ version, commit, node: process.versions.node }, 1);
    for (const state of DELIVERY_STATES) this.#webhookAttempts.inc({ state }, 0);
    for (const result of MANIFEST_RESULTS) this.#manifestReads.inc({ result }, 0);
  }

  /** Sets the models that this worker serves. Their counters exist from then on, so that the first increase is seen. */
  setModels(cards: readonly Pick<ModelCard, "id" | "base" | "slowGraphs">[]): void {
    for (const { id, base, slowGraphs = [] } of cards) {
      this.#bases.set(id, base.slice(0, BASE_CHARS));
      const labels = this.#labelsOf(id);
      for (const { role } of slowGraphs) this.#slowGraph.set({ ...labels, role }, 1);
      for (const state of JOB_STATES.filter(isTerminal))
        this.#jobsEnded.inc({ state, ...labels }, 0);
      const counters = [
        this.#promptTokens,
        this.#cachedTokens,
        this.#generatedTokens,
        this.#attemptsFailed,
        this.#takeovers,
      ];
      for (const counter of counters) counter.inc(labels, 0);
      for (const histogram of [this.#firstTokenSeconds, this.#queueSeconds, this.#waitSeconds]) {
        histogram.zero(labels);
      }
    }
  }

  /** The manifest was read again while the worker ran. */
  manifestRead(result: (typeof MANIFEST_RESULTS)[number]): void {
    this.#manifestReads.inc({ result });
  }

  /** Sets which of the models with a remote base can be used now. */
  setRemoteBases(
    bases: readonly { readonly model: string; readonly problem: string | null }[],
  ): void {
    this.#remoteBaseUp.reset();
    for (const { model, problem } of bases) {
      this.#remoteBaseUp.set(this.#labelsOf(model), problem === null ? 1 : 0);
    }
  }

  /** Sets the jobs of all known models. A model that is not among them is not known any more. */
  setModelJobs(models: ReadonlyMap<string, LaneCounts>): void {
    this.#modelJobs.reset();
    this.#modelAgeSeconds.reset();
    for (const [model, { waiting, running, ageSeconds }] of models) {
      this.#modelJobs.set({ model, state: "waiting" }, waiting);
      this.#modelJobs.set({ model, state: "running" }, running);
      this.#modelAgeSeconds.set({ model }, ageSeconds);
    }
  }

  #labelsOf(model: string): { model: string; base: string } {
    return { model, base: this.#bases.get(model) ?? "" };
  }

  /** Sets the worker's configured limits. */
  setLimits({ slots, cacheBytesMax }: { slots: number; cacheBytesMax: number }): void {
    this.#slots.set(slots);
    this.#cacheBytesMax.set(cacheBytesMax);
  }

  setQueueGauges({ queue, ageSeconds, waiting, delayed, active }: QueueGauges): void {
    for (const [state, count] of Object.entries({ waiting, delayed, active })) {
      this.#queueJobs.set({ queue, state }, count);
    }
    this.#queueAgeSeconds.set({ queue }, ageSeconds);
  }

  /** A job was claimed for the first time. @param queueMs time since its submission */
  jobStarted(model: string, queueMs: number): void {
    this.#queueSeconds.observe(this.#labelsOf(model), queueMs / 1000);
  }

  /** @param ms time since the submission */
  firstToken(model: string, ms: number): void {
    this.#waitSeconds.observe(this.#labelsOf(model), ms / 1000);
  }

  jobTakenOver(model: string): void {
    this.#takeovers.inc(this.#labelsOf(model));
  }

  attemptFailed(model: string): void {
    this.#attemptsFailed.inc(this.#labelsOf(model));
  }

  jobEnded(state: JobState, model: string): void {
    this.#jobsEnded.inc({ state, ...this.#labelsOf(model) });
  }

  webhookAttempt(state: DeliveryState): void {
    this.#webhookAttempts.inc({ state });
  }

  /** Adds the engine's counts since the previous call, and sets its gauges. */
  addEngineStats(stats: EngineStats): void {
    for (const [model, counts] of stats.models) {
      const labels = this.#labelsOf(model);
      this.#promptTokens.inc(labels, counts.promptTokens);
      this.#cachedTokens.inc(labels, counts.cachedTokens);
      this.#generatedTokens.inc(labels, counts.generatedTokens);
      for (const [drafter, { drafted, accepted }] of Object.entries(counts.drafts)) {
        this.#draftedTokens.inc({ drafter, ...labels }, drafted);
        this.#acceptedTokens.inc({ drafter, ...labels }, accepted);
      }
      for (const ms of counts.firstTokenMs) this.#firstTokenSeconds.observe(labels, ms / 1000);
    }
    this.#jobsRunning.set(stats.running);
    this.#jobsWaiting.set(stats.waiting);
    this.#cacheBytes.set(stats.cacheBytes);
    this.#prefixBytes.set(stats.prefixBytes);
    for (const ms of stats.stepMs) this.#stepSeconds.observe(ms / 1000);
  }
}
