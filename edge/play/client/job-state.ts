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

function queueText({ queue }: Job): string {
  if (queue === null) return "In the queue";
  if (queue.reason === "no_worker") return "In the queue: no worker serves this model now";
  if (queue.reason === "paused") return "In the queue: the operator has paused this model";
  const eta = queue.eta === null ? "" : `, starts in about ${Math.ceil(queue.eta.p50)} s`;
  return `In the queue at place ${queue.position}${eta}`;
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
