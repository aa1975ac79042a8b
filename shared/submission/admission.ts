/**
 * Estimates the tokens that a request reserves. Refuses a request that would exceed its API key's limits even if it were the
 * only one.
 */
import { AppError } from "../api/errors.ts";
import { LIMITS } from "../api/limits.ts";
import { smallestLimit, type Admission } from "../jobs/admission.ts";
import type { ModelCard } from "../workers/model-card.ts";
import { messageTexts, type Generation } from "../jobs/record.ts";
import type { ApiKeyRecord } from "../keys/record.ts";

/** An estimate: only workers have the tokenizers. When a job ends, the tokens that it did not use are given back. */
const CHARS_PER_TOKEN = 4;

/**
 * The limits that a request is checked against.
 * @param generations one for each job of the request
 * @param isOpen whether their outputs have no limit but the context: then a usual length is reserved, and what a job used beyond
 * that is taken from the limits when it ends
 * @throws AppError invalid_request if the request would exceed the API key's limits even if it were the only one
 */
export function admissionOf(
  { id, limits, within }: ApiKeyRecord,
  generations: readonly Generation[],
  card: ModelCard,
  isOpen = false,
): Omit<Admission, "idempotency"> {
  const pools = [{ id, limits }, ...within];
  const tokens = generations.map((generation) => estimateJobTokens(generation, card, isOpen));
  const tokenCount = tokens.reduce((sum, count) => sum + count, 0);
  const tokensMax = smallestLimit(pools, "tokens") ?? Infinity;
  if (tokenCount > tokensMax) {
    const param = generations[0]?.completion ? "completion" : "max_tokens";
    const message = `${param} and the prompt need about ${tokenCount} tokens, and this API key allows ${tokensMax} a minute`;
    throw new AppError("invalid_request", message, { param });
  }
  const jobsMax = smallestLimit(pools, "jobs") ?? Infinity;
  if (tokens.length > jobsMax) {
    const message = `n times the number of prompts must be at most ${jobsMax}, the concurrent jobs that this API key allows`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  return { pools, tokens };
}

/** Tokens of the prompt and of what is generated or scored, at most a whole context. */
function estimateJobTokens(generation: Generation, card: ModelCard, isOpen: boolean): number {
  const { completion, maxTokens } = generation;
  const reserved = isOpen ? Math.min(maxTokens, LIMITS.maxTokensDefault) : maxTokens;
  const outputTokens = completion ? estimateTokens({ input: completion }) : reserved;
  return Math.min(estimateTokens(generation) + outputTokens, card.contextTokens);
}

/** Tokens of a prompt with its tools: the count of ids, or an estimate from the length of the text. */
export function estimateTokens({ input, tools }: Pick<Generation, "input" | "tools">): number {
  if (input.kind === "tokens") return input.ids.length;
  const texts = input.kind === "chat" ? input.messages.flatMap(messageTexts) : [input.text];
  const isShown = tools && tools.choice !== "none";
  const toolChars = isShown ? JSON.stringify(tools.functions).length : 0;
  const chars = texts.reduce((sum, text) => sum + text.length, toolChars);
  return Math.ceil(chars / CHARS_PER_TOKEN);
}
