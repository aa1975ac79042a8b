/** One job from its submission to its end, with its tokens and its progress as they come. */
import type { EndEvent } from "../../../shared/api/job-events.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import type { Api, JobBody } from "./api.ts";
import { followJob } from "./follow.ts";
import { stateText } from "./job-state.ts";
import { TokenReader, type Token } from "./tokens.ts";

/** Without an event for so long, the job's state is read: it may wait, or its worker may be lost. */
const SILENCE_MS = 700;

export interface RunListener {
  onJob(id: string): void;
  onState(text: string): void;
  onTokens(tokens: readonly Token[]): void;
}

/**
 * Runs a job to its end. If the signal is aborted the job is cancelled.
 * @returns the ended job
 * @throws Error with the job's error if it did not succeed
 */
export async function runJob(
  api: Api,
  body: JobBody,
  listener: RunListener,
  signal: AbortSignal,
): Promise<Job> {
  const job = await api.submit(body, signal);
  listener.onJob(job.id);
  listener.onState(stateText(job));
  const cancel = () => void api.cancel(job.id).catch(() => {});
  signal.addEventListener("abort", cancel);
  try {
    await followToEnd(api, job.id, listener, signal);
    return await api.job(job.id, signal);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

/** Follows a job to its end, from its first token on. @throws Error with the job's error if it did not succeed */
export async function followToEnd(
  api: Api,
  jobId: string,
  listener: RunListener,
  signal: AbortSignal,
): Promise<void> {
  const watch = watchState(api, jobId, listener, signal);
  try {
    const end = await followTokens(api, jobId, { watch, listener, signal });
    if (end?.error) throw new Error(end.error.message);
  } finally {
    watch.stop();
  }
}

interface Following {
  readonly watch: StateWatch;
  readonly listener: RunListener;
  readonly signal: AbortSignal;
}

async function followTokens(
  api: Api,
  jobId: string,
  { watch, listener, signal }: Following,
): Promise<EndEvent | null> {
  const reader = new TokenReader();
  let count = 0;
  let attempt = 1;
  const onLost = () => listener.onState(`The connection was lost after ${count} tokens: resuming`);
  for await (const event of followJob(api, jobId, signal, onLost)) {
    watch.heard();
    if (event.type === "started") {
      attempt = event.attempt;
      if (attempt > 1) listener.onState(`Taken over by another worker (attempt ${attempt})`);
    } else if (event.type === "tokens") {
      const tokens = reader.read(event);
      count += tokens.length;
      listener.onTokens(tokens);
      const after = attempt > 1 ? `, taken over by another worker (attempt ${attempt})` : "";
      listener.onState(`${count} tokens${after}`);
    } else if ("finish_reason" in event) return event;
  }
  return null;
}

interface StateWatch {
  /** An event came: the state is known. */
  readonly heard: () => void;
  readonly stop: () => void;
}

function watchState(
  api: Api,
  jobId: string,
  listener: RunListener,
  signal: AbortSignal,
): StateWatch {
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const askedMs = performance.now();
    if (askedMs - lastMs < SILENCE_MS) return;
    // An event that came meanwhile says more than this reply.
    const show = (job: Job) => {
      if (lastMs < askedMs && job.ended_at === null) listener.onState(stateText(job));
    };
    api.job(jobId, signal).then(show, () => {});
  }, SILENCE_MS);
  return {
    heard: () => {
      lastMs = performance.now();
    },
    stop: () => clearInterval(timer),
  };
}
