/** The text that a generation is to score, as the base's tokens and within what can be scored. */
import { AppError } from "../../shared/errors.ts";
import type { Generation } from "../../shared/job.ts";
import { checkIds, type Cast } from "./casting.ts";

/** Returns null where tokens are to be drawn. @throws AppError invalid_request, context_length_exceeded */
export function completionOf(
  { ensemble, promptTokensMax, contextTokens }: Cast,
  { completion, maxTokens }: Generation,
): readonly number[] | null {
  if (!completion) return null;
  const ids =
    completion.kind === "tokens" ? completion.ids : ensemble.encodeCompletion(completion.text);
  const param = "completion";
  checkIds(ids, ensemble, param);
  const count = ids.length;
  if (count === 0) {
    throw new AppError("invalid_request", "completion must have at least one token", { param });
  }
  if (promptTokensMax + count > contextTokens) {
    const message = `completion has ${count} tokens and the prompt ${promptTokensMax}; the context of ${ensemble.card.id} has room for ${contextTokens} together`;
    throw new AppError("context_length_exceeded", message, { param });
  }
  if (count > maxTokens) {
    const message = `completion has ${count} tokens; at most ${maxTokens} are scored with these top_logprobs`;
    throw new AppError("invalid_request", message, { param });
  }
  return ids;
}
