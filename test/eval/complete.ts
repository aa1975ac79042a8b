/** Answers the items of the demo's evaluation. */
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { answerAll, type AnswerOptions } from "./answer.ts";
import { COMPLETION_TOKENS_MAX, type Completion, type Item } from "./task.ts";

/** Questions answered at the same time. */
const BATCH_SIZE = 64;

/** @returns completions in the order of the items */
export function complete(
  ensemble: Ensemble,
  items: readonly Item[],
  alpha: number,
  options: Pick<AnswerOptions, "gate" | "onEnd"> = {},
): Promise<Completion[]> {
  const inputs = items.map(({ prompt }) => ({
    kind: "chat" as const,
    messages: [{ role: "user" as const, content: prompt }],
  }));
  return answerAll(ensemble, inputs, {
    alpha,
    maxTokens: COMPLETION_TOKENS_MAX,
    batchSize: BATCH_SIZE,
    ...options,
  });
}
