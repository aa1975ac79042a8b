/** One line about a job's progress, in plain words. */
import type { Job } from "../../../shared/api/jobs.ts";

export function stateText(job: Job): string {
  if (job.state === "queued") return queueText(job);
  if (job.waiting_for === "weights") {
    return "The worker was lost, and no live worker has the same weights: the job waits for one";
  }
  if (job.waiting_for === "worker")
    return "The worker was lost: another one will take the job over";
  if (job.phase === "loading") return "A worker has the job and makes room for it";
  if (job.phase === "prefill") return "The models read the prompt (prefill)";
  return "The first token comes next";
}

/** Why a queued job cannot start at present. */
const REASONS = {
  no_worker: "no worker serves this model now",
  base_away: "the server of the base does not answer",
  paused: "the operator has paused this model",
} as const;

function queueText({ queue }: Job): string {
  if (queue === null) return "In the queue";
  const place = `In the queue at place ${queue.position}`;
  if (queue.reason !== null) return `${place}: ${REASONS[queue.reason]}`;
  return queue.eta === null ? place : `${place}, starts in about ${Math.ceil(queue.eta.p50)} s`;
}

/** The cost of an ended job, in tokens and seconds. */
export function costText({ usage, timings }: Job): string {
  if (usage === null) return "";
  const { prompt_tokens, completion_tokens, prompt_tokens_details, speculation } = usage;
  const cached = prompt_tokens_details.cached_tokens;
  const speed = timings.tokens_per_second;
  return [
    `prompt ${prompt_tokens} tokens${cached > 0 ? ` (${cached} from the cache)` : ""}`,
    `answer ${completion_tokens} tokens`,
    ...(speed === null ? [] : [`${speed.toFixed(0)} tokens/s`]),
    ...(speculation.drafted_tokens > 0
      ? [`${speculation.accepted_tokens} of ${speculation.drafted_tokens} drafted tokens accepted`]
      : []),
  ].join(" · ");
}
