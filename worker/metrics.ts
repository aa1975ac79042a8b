/** Everything that a worker tells Prometheus. No label has a tenant, a job or a prompt: whoever may scrape sees none of them. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { JobState } from "../shared/contract.ts";
import type { DeliveryState } from "../shared/webhook-contract.ts";
import type { Figures } from "./engine/figures.ts";
import type { QueueFigures } from "./queue-figures.ts";

/** From a step of the demo family to a long prefill of a large model on a CPU. */
const STEP_SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const FIRST_TOKEN_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
/** Batches wait for as long as a day. */
const QUEUE_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400];

export class Metrics {
  readonly registry = new Registry();
  readonly #counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name: `trimtab_${name}`, help, labelNames, registers: [this.registry] });
  readonly #histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `trimtab_${name}`, help, buckets, registers: [this.registry] });

  readonly #prompt = this.#counter("prompt_tokens_total", "Tokens of the base's prompts");
  readonly #cached = this.#counter(
    "prompt_tokens_cached_total",
    "Of these, those that needed no prefill",
  );
  readonly #generated = this.#counter("generated_tokens_total", "Tokens generated");
  readonly #drafted = this.#counter(
    "drafted_tokens_total",
    "Drafted tokens that were verified",
    "drafter",
  );
  readonly #accepted = this.#counter(
    "accepted_tokens_total",
    "Drafted tokens that were right",
    "drafter",
  );
  readonly #ended = this.#counter("jobs_ended_total", "Jobs that ended", "state");
  readonly #failed = this.#counter(
    "attempts_failed_total",
    "Attempts at a job that threw, and were repeated if any were left",
  );
  readonly #takeovers = this.#counter(
    "takeovers_total",
    "Jobs that were taken up after another worker was lost with them",
  );
  readonly #webhooks = this.#counter(
    "webhook_attempts_total",
    "Attempts to deliver a webhook, by the state in which they left the delivery",
    "state",
  );
  readonly #queued = this.#gauge(
    "queue_jobs",
    "In the queues that all workers share: generate, deliver (webhooks), expand (batches)",
    "queue",
    "state",
  );
  readonly #age = this.#gauge(
    "queue_age_seconds",
    "For how long the first of those that wait has done so",
    "queue",
  );
  readonly #slots = this.#gauge("slots", "Jobs that this worker takes at once");
  readonly #cacheBytesMax = this.#gauge("kv_cache_bytes_max", "What they may come to");
  readonly #running = this.#gauge("jobs_running", "Generations in the batch");
  readonly #waiting = this.#gauge("jobs_waiting", "Generations that wait for room in the KV cache");
  readonly #cacheBytes = this.#gauge("kv_cache_bytes", "KV caches of all models");
  readonly #prefixBytes = this.#gauge("prefix_cache_bytes", "Kept prefixes of prompts past");
  readonly #step = this.#histogram("step_seconds", "One step of the batch", STEP_SECONDS);
  readonly #firstToken = this.#histogram(
    "first_token_seconds",
    "From a generation's arrival in the engine to its first token",
    FIRST_TOKEN_SECONDS,
  );
  readonly #queueSeconds = this.#histogram(
    "queue_seconds",
    "From a job's submission until a worker takes it",
    QUEUE_SECONDS,
  );

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** What this worker may do at most. */
  limits({ slots, cacheBytesMax }: { slots: number; cacheBytesMax: number }): void {
    this.#slots.set(slots);
    this.#cacheBytesMax.set(cacheBytesMax);
  }

  queue({ queue, ageSeconds, waiting, delayed, active }: QueueFigures): void {
    for (const [state, count] of Object.entries({ waiting, delayed, active })) {
      this.#queued.set({ queue, state }, count);
    }
    this.#age.set({ queue }, ageSeconds);
  }

  /** A job was taken for the first time. */
  jobTaken(queueMs: number): void {
    this.#queueSeconds.observe(queueMs / 1000);
  }

  jobTakenOver(): void {
    this.#takeovers.inc();
  }

  attemptFailed(): void {
    this.#failed.inc();
  }

  jobEnded(state: JobState): void {
    this.#ended.inc({ state });
  }

  webhookAttempt(state: DeliveryState): void {
    this.#webhooks.inc({ state });
  }

  /** Adds what the engine has counted since the last time. */
  add(figures: Figures): void {
    this.#prompt.inc(figures.promptTokens);
    this.#cached.inc(figures.cachedTokens);
    this.#generated.inc(figures.generatedTokens);
    for (const [drafter, { drafted, accepted }] of Object.entries(figures.drafts)) {
      this.#drafted.inc({ drafter }, drafted);
      this.#accepted.inc({ drafter }, accepted);
    }
    this.#running.set(figures.running);
    this.#waiting.set(figures.waiting);
    this.#cacheBytes.set(figures.cacheBytes);
    this.#prefixBytes.set(figures.prefixBytes);
    for (const ms of figures.stepMs) this.#step.observe(ms / 1000);
    for (const ms of figures.firstTokenMs) this.#firstToken.observe(ms / 1000);
  }
}
