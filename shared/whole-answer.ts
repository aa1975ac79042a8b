/** The answer of ended jobs, as one protocol says it, or why there is none. */
import type { EndEvent, Usage } from "./contract.ts";
import { AppError } from "./errors.ts";
import type { Piece, Shapes } from "./openai-shapes.ts";

/** How an ended job ended. */
export type End = Pick<EndEvent, "type" | "finish_reason" | "usage" | "error">;

/** All that one job of a request said. */
export interface EndedChoice {
  readonly piece: Piece;
  readonly end: End;
}

/** @param n choices of each prompt */
export function wholeAnswer(shapes: Shapes, ended: readonly EndedChoice[], n: number): object {
  const choices = ended.map(({ piece, end }, i) => shapes.choice(i, piece, end.finish_reason));
  const ends = ended.map(({ end }) => end);
  return shapes.whole(choices, usageOf(ends, n));
}

/** What the choices used together: a prompt counts once for all its n choices. */
export function usageOf(ends: readonly Pick<End, "usage">[], n: number): Usage {
  const all = ends.map(({ usage }) => usage);
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
  };
}

function sum(usages: readonly Usage[], count: (usage: Usage) => number): number {
  return usages.reduce((total, usage) => total + count(usage), 0);
}

export function requireSuccess({ type, error }: Pick<End, "type" | "error">): void {
  if (type === "succeeded") return;
  if (error !== null) throw new AppError(error.code, error.message);
  if (type === "cancelled") throw new AppError("job_cancelled", "The job was cancelled");
  if (type === "expired") throw new AppError("deadline_exceeded", "The job's deadline passed");
  throw new AppError("internal", "The job failed");
}
