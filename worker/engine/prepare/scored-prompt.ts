/**
 * Which tokens of a prompt are scored. A token of the base's prompt has a steered log-probability where the prompts of all models
 * end with the same tokens from it on. They are the same altogether unless the models have different templates; then only tokens
 * after the last difference are scored.
 */
import { AppError } from "../../../shared/api/errors.ts";
import type { SentGeneration, TokenIds } from "../../engine-client/messages.ts";

/** @throws AppError invalid_request if there is no room for the log-probabilities of so many tokens */
export function checkScoredPrompt(
  { promptLogprobs }: Pick<SentGeneration, "promptLogprobs">,
  promptTokens: number,
): void {
  if (!promptLogprobs || promptTokens <= promptLogprobs.tokensMax) return;
  const message = `prompt has ${promptTokens} tokens; at most ${promptLogprobs.tokensMax} can have log-probabilities in this request: send fewer prompts at once, or ask for fewer tokens at each position`;
  throw new AppError("invalid_request", message, { param: "prompt" });
}

/** How many tokens at the end of the prompts are scored. Each model needs a token before the first of them. */
export function scoredPromptTokens(prompts: readonly TokenIds[]): number {
  const [base, ...others] = prompts as [TokenIds, ...TokenIds[]];
  const different = new Set(others.filter((prompt) => prompt !== base));
  return Math.min(
    base.length - 1,
    ...[...different].map((prompt) => Math.min(commonEnd(base, prompt), prompt.length - 1)),
  );
}

function commonEnd(a: TokenIds, b: TokenIds): number {
  const most = Math.min(a.length, b.length);
  let count = 0;
  while (count < most && a[a.length - 1 - count] === b[b.length - 1 - count]) count++;
  return count;
}
