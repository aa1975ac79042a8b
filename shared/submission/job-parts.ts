/**
 * The parts of a request that differ between its jobs: inputs, texts to score, and how many tokens of them are scored at most. All
 * log-probabilities of a request must fit into its reply. The edge has no tokenizer, so the texts share the room by their estimated
 * tokens, and the worker counts.
 */
import { AppError } from "../api/errors.ts";
import { LIMITS } from "../api/limits.ts";
import { candidateEntries } from "../api/token-details.ts";
import type { Generation, TextInput } from "../jobs/record.ts";
import { estimateTokens } from "./admission.ts";
import type { GenerationRequest } from "./submission.ts";
import { detailEntries, type JobParts } from "./validate.ts";

/** One entry for each input. @throws AppError invalid_request if the texts that are scored are too long together */
export function jobParts(request: GenerationRequest): JobParts[] {
  const { inputs, completions, candidates, promptLogprobs } = request;
  if (completions) {
    const maxTokens = completionTokensMax(request, completions);
    return inputs.map((input, i) => ({
      input,
      completion: completions[i]!,
      maxTokens: maxTokens[i]!,
      ...(candidates && { candidates }),
    }));
  }
  if (promptLogprobs === undefined) return inputs.map((input) => ({ input }));
  const tokensMax = promptTokensMax(request, promptLogprobs);
  return inputs.map((input, i) => ({
    input,
    promptLogprobs: { top: promptLogprobs, tokensMax: tokensMax[i]! },
  }));
}

/** How many tokens each completion may have. */
function completionTokensMax(
  { request: { logprobs, steering }, candidates }: GenerationRequest,
  completions: readonly TextInput[],
): number[] {
  const perToken =
    detailEntries(logprobs ?? null, steering?.trace ?? false) +
    candidateEntries(candidateCount(candidates));
  const tokensMax = Math.floor(LIMITS.reportEntriesMax / perToken);
  const param = completions.length === 1 ? "completion" : "completions";
  const message = `at most ${tokensMax} tokens of all completions can be scored with this top_logprobs and these candidates`;
  return shares(
    completions.map((input) => estimateTokens({ input })),
    tokensMax,
    { param, message },
  );
}

const candidateCount = (candidates: Generation["candidates"]) =>
  candidates === undefined ? 0 : "ids" in candidates ? candidates.ids.length : candidates.top;

/** How many tokens each prompt may have. What the output needs is taken first. */
function promptTokensMax(
  { request: { logprobs, steering, max_tokens }, inputs, n }: GenerationRequest,
  promptLogprobs: number,
): number[] {
  const outputTokens = inputs.length * n * (max_tokens ?? LIMITS.maxTokensDefault);
  const outputEntries = outputTokens * detailEntries(logprobs ?? null, steering?.trace ?? false);
  const left = Math.max(0, LIMITS.reportEntriesMax - outputEntries);
  const tokensMax = Math.floor(left / (1 + promptLogprobs) / n);
  const message = `the log-probabilities of at most ${tokensMax} tokens of all prompts fit into the reply, with these max_tokens, n and counts of likeliest tokens`;
  return shares(
    inputs.map((input) => estimateTokens({ input })),
    tokensMax,
    { param: "prompt", message },
  );
}

/** Divides the tokens of a request in proportion to estimates. @throws AppError invalid_request if these are more */
function shares(
  estimates: readonly number[],
  tokensMax: number,
  { param, message }: { readonly param: string; readonly message: string },
): number[] {
  const sizes = estimates.map((tokens) => Math.max(1, tokens));
  const size = sizes.reduce((sum, tokens) => sum + tokens, 0);
  if (size > tokensMax) {
    const text = `${param}: ${message}; received about ${size}`;
    throw new AppError("invalid_request", text, { param });
  }
  return sizes.map((tokens) =>
    Math.min(LIMITS.maxTokensMax, Math.floor((tokensMax * tokens) / size)),
  );
}
