/** Answers the items of the demo's evaluation. */
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { answerAll, type AnswerOptions } from "./answer.ts";
import { earlierTurns } from "./earlier.ts";
import { COMPLETION_TOKENS_MAX, type Completion, type Item } from "./task.ts";

/** Questions answered at the same time. */
const BATCH_SIZE = 64;

/**
 * @param earlierTokens of the turns before each question at most
 * @returns completions in the order of the items
 */
export function complete(
  ensemble: Ensemble,
  items: readonly Item[],
  alpha: number,
  {
    earlierTokens = 0,
    ...options
  }: Pick<AnswerOptions, "gate" | "onEnd"> & { readonly earlierTokens?: number } = {},
): Promise<Completion[]> {
  const earlier = earlierTurns(ensemble, earlierTokens);
  const inputs = items.map(({ prompt }, i) => ({
    kind: "chat" as const,
    messages: [...earlier(i), { role: "user" as const, content: prompt }],
  }));
  return answerAll(ensemble, inputs, {
    alpha,
    maxTokens: COMPLETION_TOKENS_MAX,
    batchSize: BATCH_SIZE,
    ...options,
  });
}
