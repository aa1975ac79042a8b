/**
 * All metrics that a worker offers to Prometheus. The dashboard and the alerts (infra/deploy/) use their names: change both
 * together. No label may contain a tenant, a job or a prompt, because a scrape is not authenticated.
 * The folder telemetry/ owns logs, metrics, spans and health checks. Other folders call it; it never changes what they do.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { JobState } from "../../shared/api/jobs.ts";
import type { DeliveryState } from "../../shared/api/webhooks.ts";
import type { EngineStats } from "../engine-client/messages.ts";
import type { QueueGauges } from "./queue-gauges.ts";

/** Bucket bounds: from a step of the small demo models to a long prefill of a large model on a CPU. */
const STEP_BUCKETS_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const FIRST_TOKEN_BUCKETS_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
/** Jobs of batches may wait up to a day. */
const QUEUE_BUCKETS_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400];

export class Metrics {
  readonly registry = new Registry();
  readonly #counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `trimtab_${name}`, help, buckets, registers: [this.registry] });

  readonly #promptTokens = this.#counter(
    "prompt_tokens_total",
    "Prompt tokens of all jobs, counted by the base model's tokenizer",
  );
  readonly #cachedTokens = this.#counter(
    "prompt_tokens_cached_total",
    "Prompt tokens served from the prefix cache, without prefill",
  );
  readonly #generatedTokens = this.#counter(
    "generated_tokens_total",
    "Tokens generated for all jobs",
  );
  readonly #draftedTokens = this.#counter(
    "drafted_tokens_total",
    "Drafted tokens that were verified in speculative decoding, by drafter (expert or lookup)",
    "drafter",
  );
  readonly #acceptedTokens = this.#counter(
    "accepted_tokens_total",
    "Drafted tokens that were accepted in speculative decoding, by drafter (expert or lookup)",
    "drafter",
  );
  readonly #jobsEnded = this.#counter(
    "jobs_ended_total",
    "Jobs that ended, by terminal state",
    "state",
  );
  readonly #attemptsFailed = this.#counter(
    "attempts_failed_total",
    "Attempts at a job that failed with an error. The job is tried again unless it was its last attempt",
  );
  readonly #takeovers = this.#counter("takeovers_total", "Jobs taken over from a lost worker");
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
    "Memory of the KV caches of all models and running jobs, in bytes",
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
  );
  readonly #queueSeconds = this.#histogram(
    "queue_seconds",
    "Time from a job's submission until a worker first claims it, in seconds",
    QUEUE_BUCKETS_SECONDS,
  );

  constructor() {
    collectDefaultMetrics({ register: this.registry });
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
  jobStarted(queueMs: number): void {
    this.#queueSeconds.observe(queueMs / 1000);
  }

  jobTakenOver(): void {
    this.#takeovers.inc();
  }

  attemptFailed(): void {
    this.#attemptsFailed.inc();
  }

  jobEnded(state: JobState): void {
    this.#jobsEnded.inc({ state });
  }

  webhookAttempt(state: DeliveryState): void {
    this.#webhookAttempts.inc({ state });
  }

  /** Adds the engine's counts since the previous call, and sets its gauges. */
  addEngineStats(stats: EngineStats): void {
    this.#promptTokens.inc(stats.promptTokens);
    this.#cachedTokens.inc(stats.cachedTokens);
    this.#generatedTokens.inc(stats.generatedTokens);
    for (const [drafter, { drafted, accepted }] of Object.entries(stats.drafts)) {
      this.#draftedTokens.inc({ drafter }, drafted);
      this.#acceptedTokens.inc({ drafter }, accepted);
    }
    this.#jobsRunning.set(stats.running);
    this.#jobsWaiting.set(stats.waiting);
    this.#cacheBytes.set(stats.cacheBytes);
    this.#prefixBytes.set(stats.prefixBytes);
    for (const ms of stats.stepMs) this.#stepSeconds.observe(ms / 1000);
    for (const ms of stats.firstTokenMs) this.#firstTokenSeconds.observe(ms / 1000);
  }
}
