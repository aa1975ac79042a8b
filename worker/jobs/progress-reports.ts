/**
 * Publishes that a job has started, and how many tokens it has, to the webhooks that ask for it. This runs beside the job, which
 * never waits for it: while a message is being published, or within a second of the last one, steps are left out.
 */
import type { Logger } from "pino";
import { LIMITS } from "../../shared/api/limits.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import type { JobRun } from "./job-run.ts";

export type ProgressPublisher = Pick<WebhookPublisher, "publishJobStart" | "publishJobProgress">;

export interface ProgressDeps {
  readonly publisher: ProgressPublisher;
  readonly log: Logger;
  /** A clock in ms. */
  readonly nowMs?: () => number;
}

/** Time between two messages about a job. */
const PAUSE_MS = 1_000;
/** Fewer tokens are no step. */
const STEP_TOKENS_MIN = 32;

/** Tokens from one message to the next: a job has at most `progressMessagesMax`. */
export const progressStep = (maxTokens: number) =>
  Math.max(STEP_TOKENS_MIN, Math.ceil(maxTokens / LIMITS.progressMessagesMax));

/** Begins to report the progress of a run. Its reports end with `stop`. */
export function reportProgress(
  { publisher, log, nowMs = () => performance.now() }: ProgressDeps,
  record: JobRecord,
  run: JobRun,
): { stop(): void } {
  const step = progressStep(record.generation.maxTokens);
  let isStopped = false;
  let isBusy = true;
  let lastMs = -Infinity;
  const onError = (error: unknown) =>
    log.warn({ err: error, job: record.id }, "Could not publish that a job runs");
  const publish = (tokens: number) => {
    isBusy = true;
    lastMs = nowMs();
    publisher
      .publishJobProgress(record, tokens)
      .catch(onError)
      .finally(() => (isBusy = false));
  };
  publisher
    .publishJobStart(record)
    .then((isWanted) => {
      isBusy = !isWanted;
    })
    .catch((error: unknown) => {
      onError(error);
      // Whether a webhook asks for it is not known, so the next step tries.
      isBusy = false;
    });
  run.onLogged = (before, after) => {
    const isStep = Math.floor(before / step) < Math.floor(after / step);
    if (!isStep || isBusy || isStopped || nowMs() - lastMs < PAUSE_MS) return;
    publish(after);
  };
  return { stop: () => void (isStopped = true) };
}
