/** The whole reply of jobs that ended, in one protocol, or the error that they ended with. */
import { AppError } from "../api/errors.ts";
import type { EndEvent } from "../api/job-events.ts";
import type { RemoteBaseUsage, Usage } from "../api/job-parts.ts";
import type { ReplyBuilder, WholeText } from "./chat-replies.ts";

/** How a job ended. */
export type JobEnd = Pick<EndEvent, "type" | "finish_reason" | "stop_sequence" | "usage" | "error">;

/** The output of one job of a request, and how the job ended. */
export interface EndedChoice {
  readonly output: WholeText;
  readonly end: JobEnd;
}

/** @param n choices of each prompt */
export function wholeReply<Whole>(
  replies: Pick<ReplyBuilder<Whole>, "whole">,
  choices: readonly EndedChoice[],
  n: number,
): Whole {
  return replies.whole(
    choices.map(({ output, end }) => ({ output, finishReason: end.finish_reason })),
    totalUsage(
      choices.map(({ end }) => end),
      n,
    ),
  );
}

/**
 * The usage of all choices together: a prompt counts once for all its choices.
 * @param n choices of each prompt
 */
export function totalUsage(ends: readonly Pick<JobEnd, "usage">[], n: number): Usage {
  const all = ends.map(({ usage }) => usage);
  const remote = all.flatMap(({ remote_base }) => remote_base ?? []);
  const prompts = all.filter((_, i) => i % n === 0);
  const prompt_tokens = sum(prompts, (usage) => usage.prompt_tokens);
  const completion_tokens = sum(all, (usage) => usage.completion_tokens);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: {
      cached_tokens: sum(prompts, (usage) => usage.prompt_tokens_details.cached_tokens),
    },
    speculation: {
      drafted_tokens: sum(all, (usage) => usage.speculation.drafted_tokens),
      accepted_tokens: sum(all, (usage) => usage.speculation.accepted_tokens),
    },
    base_calls: sum(all, (usage) => usage.base_calls ?? 0),
    ...(remote.length > 0 && { remote_base: remote.reduce(addRemoteBase) }),
  };
}

function addRemoteBase(one: RemoteBaseUsage, other: RemoteBaseUsage): RemoteBaseUsage {
  return {
    calls: one.calls + other.calls,
    asked_again: one.asked_again + other.asked_again,
    certified_tokens: one.certified_tokens + other.certified_tokens,
    bounded_tokens: one.bounded_tokens + other.bounded_tokens,
    base_alone_tokens: one.base_alone_tokens + other.base_alone_tokens,
    error_max: Math.max(one.error_max, other.error_max),
    bytes: one.bytes + other.bytes,
  };
}

function sum(usages: readonly Usage[], count: (usage: Usage) => number): number {
  return usages.reduce((total, usage) => total + count(usage), 0);
}

/** @throws AppError the job's error as `endError` gives it, unless the job succeeded */
export function requireSuccess(end: Pick<JobEnd, "type" | "error">, fields: JobFields): void {
  const error = endError(end, fields);
  if (error !== null) throw error;
}

/** The fields of a request that the error of a job can be about. */
export interface JobFields {
  /** The one that the job is for, if the request has several such. */
  readonly own?: string | undefined;
  /** The one with the job's prompt. */
  readonly prompt: string;
}

/** The job's error with its field of the request; null if it succeeded. */
export function endError(
  { type, error }: Pick<JobEnd, "type" | "error">,
  { own, prompt }: JobFields,
): AppError | null {
  if (type === "succeeded") return null;
  const param = own ?? (error?.code === "context_length_exceeded" ? prompt : undefined);
  const options = param === undefined ? {} : { param };
  if (error !== null) return new AppError(error.code, error.message, options);
  if (type === "cancelled") return new AppError("job_cancelled", "The job was cancelled", options);
  if (type === "expired")
    return new AppError("deadline_exceeded", "The job's deadline passed", options);
  return new AppError("internal", "The job failed", options);
}
