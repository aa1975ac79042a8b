/**
 * Writes the log lines, spans and metrics of one attempt at a job. Spans: `queue`, `attempt`, and inside `attempt`
 * `prefill` and `decode`. Log lines and spans contain names and numbers only, never the prompt or the output.
 */
import { SpanStatusCode, trace, type Span } from "@opentelemetry/api";
import type { Logger } from "pino";
import type { TerminalState } from "../../shared/api/jobs.ts";
import type { Outcome } from "../../shared/api/job-events.ts";
import type { ClaimedJob } from "../../shared/jobs/leases.ts";
import { jobLogger } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { traceContextOf, tracer } from "./tracing.ts";

export interface AttemptWatchDeps {
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "jobStarted" | "firstToken" | "jobTakenOver" | "attemptFailed">;
}

/** Observes one attempt. Each method is called when the event in its name has happened. */
export class AttemptWatch {
  readonly #metrics: AttemptWatchDeps["metrics"];
  readonly #workerLog: Logger;
  #log: Logger;
  #attemptSpan: Span | null = null;
  /** The span of the current phase, `prefill` or `decode`. */
  #phaseSpan: Span | null = null;
  #isDecoding = false;
  readonly #model: string;
  /** When the job would have been submitted on this process' clock; null if the time to its first token is not measured. */
  #submittedMs: number | null = null;

  /** @param model of the job */
  constructor({ log, metrics }: AttemptWatchDeps, jobId: string, model: string) {
    this.#model = model;
    this.#workerLog = log;
    this.#log = log.child({ job: jobId });
    this.#metrics = metrics;
  }

  /** The job was claimed. Starts the attempt's span; if the job is taken over, first writes the span of the lost attempt. */
  jobClaimed({ record, previousAttempt }: ClaimedJob): void {
    const { attempt } = record;
    const nowMs = Date.now();
    this.#log = jobLogger(this.#workerLog, record, attempt);
    const context = traceContextOf(record.requestOptions.traceparent);
    const attributes = {
      "trimtab.job.id": record.id,
      "gen_ai.request.model": record.generation.model,
      "trimtab.alpha": record.generation.alpha,
    };
    if (previousAttempt === null) {
      // Both times are Redis' own.
      const queueMs = (record.claimedAtMs ?? nowMs) - record.createdAtMs;
      this.#metrics.jobStarted(this.#model, queueMs);
      // A batch may wait for a day.
      if (record.requestOptions.batch === undefined)
        this.#submittedMs = performance.now() - queueMs;
      this.#log.info("Job started");
    } else if (previousAttempt.isGivenUp) {
      this.#log.info("Job continued: its last attempt was given up");
    } else {
      this.#metrics.jobTakenOver(this.#model);
      this.#log.warn("Job taken over from a lost worker");
      // The lost worker could not end its span.
      const lostAttributes = { ...attributes, "trimtab.attempt": attempt - 1 };
      const span = tracer.startSpan(
        "attempt",
        { startTime: previousAttempt.claimedAtMs, attributes: lostAttributes },
        context,
      );
      span.setStatus({ code: SpanStatusCode.ERROR, message: "The worker was lost" });
      span.end(previousAttempt.seenAtMs);
    }
    const startTime = previousAttempt?.seenAtMs ?? record.createdAtMs;
    tracer.startSpan("queue", { startTime, attributes }, context).end(nowMs);
    this.#attemptSpan = tracer.startSpan(
      "attempt",
      { startTime: nowMs, attributes: { ...attributes, "trimtab.attempt": attempt } },
      context,
    );
  }

  /** The engine has started to process the prompt. */
  prefillStarted(): void {
    this.#startPhase("prefill");
  }

  /** A token was generated; the first one starts the phase `decode`. */
  tokenGenerated(): void {
    if (this.#isDecoding) return;
    this.#isDecoding = true;
    if (this.#submittedMs !== null) {
      this.#metrics.firstToken(this.#model, performance.now() - this.#submittedMs);
    }
    this.#startPhase("decode");
  }

  /** The attempt has ended the job. */
  jobEnded(state: TerminalState, { usage, error }: Outcome): void {
    const { drafted_tokens, accepted_tokens } = usage.speculation;
    this.#attemptSpan?.setAttributes({
      "trimtab.state": state,
      "gen_ai.usage.input_tokens": usage.prompt_tokens,
      "gen_ai.usage.output_tokens": usage.completion_tokens,
      "gen_ai.usage.cache_read.input_tokens": usage.prompt_tokens_details.cached_tokens,
      ...(drafted_tokens > 0 && { "trimtab.acceptance_rate": accepted_tokens / drafted_tokens }),
    });
    if (state === "failed") this.#markError(error?.code ?? state);
    this.#endSpans();
  }

  /** The attempt was stopped: the job was deleted, was given up, has another worker, or Redis failed. */
  jobFenced(): void {
    this.#log.warn("Attempt stopped: this worker may not write to the job any more");
    this.#markError("fenced");
    this.#endSpans();
  }

  /** The attempt threw. */
  attemptFailed(error: unknown): void {
    this.#log.error({ err: error }, "Job attempt failed");
    this.#metrics.attemptFailed(this.#model);
    this.#markError(error instanceof Error ? error.name : typeof error);
    this.#endSpans();
  }

  #startPhase(phase: "prefill" | "decode"): void {
    // Times are always passed: otherwise the SDK uses a second clock, and a span may end after its parent.
    const startTime = Date.now();
    this.#phaseSpan?.end(startTime);
    const context =
      this.#attemptSpan && trace.setSpan(traceContextOf(undefined), this.#attemptSpan);
    this.#phaseSpan = context && tracer.startSpan(phase, { startTime }, context);
  }

  #markError(message: string): void {
    this.#attemptSpan?.setStatus({ code: SpanStatusCode.ERROR, message });
  }

  #endSpans(): void {
    const nowMs = Date.now();
    this.#phaseSpan?.end(nowMs);
    this.#attemptSpan?.end(nowMs);
    this.#phaseSpan = null;
    this.#attemptSpan = null;
  }
}
