/**
 * What is seen of one attempt at a job: its lines in the log, its spans (`queue`, `attempt` and in it `prefill` and
 * `decode`), its figures. Names and numbers only: neither spans nor lines say what the job reads or writes.
 */
import { SpanStatusCode, trace, type Span } from "@opentelemetry/api";
import type { Logger } from "pino";
import type { Outcome, TerminalState } from "../shared/contract.ts";
import type { JobRecord } from "../shared/job.ts";
import type { Claimed } from "../shared/claim.ts";
import { jobLog } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { contextOf, tracer } from "./tracing.ts";

export interface AttemptWatchDeps {
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "jobTaken" | "jobTakenOver" | "attemptFailed">;
}

export class AttemptWatch {
  readonly #metrics: AttemptWatchDeps["metrics"];
  readonly #failures: number;
  readonly #root: Logger;
  #log: Logger;
  #number = 0;
  #attempt: Span | null = null;
  /** Of the phase that the attempt is in. */
  #phase: Span | null = null;
  #isDecoding = false;

  /** @param failures of earlier attempts: those that are left were lost with their workers */
  constructor({ log, metrics }: AttemptWatchDeps, jobId: string, failures: number) {
    this.#root = log;
    this.#log = log.child({ job: jobId });
    this.#metrics = metrics;
    this.#failures = failures;
  }

  /** The attempt's number; 0 until the job is claimed. */
  get number(): number {
    return this.#number;
  }

  claimed(record: JobRecord, { attempt, before }: Claimed): void {
    const nowMs = Date.now();
    this.#number = attempt;
    this.#log = jobLog(this.#root, record, attempt);
    const context = contextOf(record.asked.traceparent);
    const attributes = {
      "trimtab.job.id": record.id,
      "gen_ai.request.model": record.generation.model,
      "trimtab.alpha": record.generation.alpha,
    };
    const isTakeover = before !== null && this.#failures === 0;
    if (isTakeover) {
      this.#metrics.jobTakenOver();
      this.#log.warn("taken over from a lost worker");
      // Its worker cannot tell of it any more.
      const lost = { ...attributes, "trimtab.attempt": attempt - 1 };
      const span = tracer.startSpan(
        "attempt",
        { startTime: before.claimedAtMs, attributes: lost },
        context,
      );
      span.setStatus({ code: SpanStatusCode.ERROR, message: "its worker was lost" });
      span.end(before.seenAtMs);
    } else if (before === null) {
      this.#metrics.jobTaken(nowMs - record.createdAtMs);
      this.#log.info("job started");
    }
    const startTime = before?.seenAtMs ?? record.createdAtMs;
    tracer.startSpan("queue", { startTime, attributes }, context).end(nowMs);
    this.#attempt = tracer.startSpan(
      "attempt",
      { startTime: nowMs, attributes: { ...attributes, "trimtab.attempt": attempt } },
      context,
    );
  }

  prefill(): void {
    this.#enter("prefill");
  }

  /** A token was generated; with the first one decoding begins. */
  token(): void {
    if (this.#isDecoding) return;
    this.#isDecoding = true;
    this.#enter("decode");
  }

  /** The attempt has ended the job. */
  ended(state: TerminalState, { usage, error }: Outcome): void {
    const { drafted_tokens, accepted_tokens } = usage.speculation;
    this.#attempt?.setAttributes({
      "trimtab.state": state,
      "gen_ai.usage.input_tokens": usage.prompt_tokens,
      "gen_ai.usage.output_tokens": usage.completion_tokens,
      "gen_ai.usage.cache_read.input_tokens": usage.prompt_tokens_details.cached_tokens,
      ...(drafted_tokens > 0 && { "trimtab.acceptance_rate": accepted_tokens / drafted_tokens }),
    });
    if (state === "failed") this.#fault(error?.code ?? state);
    this.#close();
  }

  /** Another worker has the job. */
  fenced(): void {
    this.#log.warn("the job was lost to another worker");
    this.#fault("fenced");
    this.#close();
  }

  /** The attempt threw. */
  failed(error: unknown): void {
    this.#log.error({ err: error }, "job attempt failed");
    this.#metrics.attemptFailed();
    this.#fault(error instanceof Error ? error.name : typeof error);
    this.#close();
  }

  #enter(phase: "prefill" | "decode"): void {
    // Told always: otherwise the SDK adds a clock of its own to the start, and children outlast their parents.
    const startTime = Date.now();
    this.#phase?.end(startTime);
    const context = this.#attempt && trace.setSpan(contextOf(undefined), this.#attempt);
    this.#phase = context && tracer.startSpan(phase, { startTime }, context);
  }

  #fault(message: string): void {
    this.#attempt?.setStatus({ code: SpanStatusCode.ERROR, message });
  }

  #close(): void {
    const nowMs = Date.now();
    this.#phase?.end(nowMs);
    this.#attempt?.end(nowMs);
    this.#phase = null;
    this.#attempt = null;
  }
}
