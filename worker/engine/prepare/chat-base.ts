/** The conversation of a generation whose base is a hosted model that takes only chats. What cannot be asked of it is refused. */
import { AppError } from "../../../shared/api/errors.ts";
import type { PreparedGeneration, SentGeneration, TokenIds } from "../../engine-client/messages.ts";
import type { EnsembleTokenizers } from "../model/ensemble-tokenizers.ts";

/**
 * @param forcedTokens the tokens of the completion to score; null if there is none
 * @returns null if the base takes tokens or text
 * @throws AppError invalid_request
 */
export function chatOfBase(
  { id, basePrompts }: Pick<EnsembleTokenizers, "id" | "basePrompts">,
  generation: SentGeneration,
  forcedTokens: TokenIds | null,
): PreparedGeneration["chat"] {
  if (basePrompts !== "chat" && basePrompts !== "chat-start") return null;
  const refuse: Refuse = (param, reason) =>
    new AppError("invalid_request", `${param}: the base of ${id} ${reason}`, { param });
  const { input, tools, promptLogprobs } = generation;
  if (input.kind !== "chat") throw refuse("prompt", "takes only messages");
  if (tools !== undefined) throw refuse("tools", "cannot be told of functions");
  if (promptLogprobs) throw refuse("prompt", "gives no log-probabilities of a prompt");
  for (const { role, toolCalls } of input.messages) {
    if (role === "tool" || toolCalls) throw refuse("messages", "takes no calls of functions");
  }
  if (input.messages.at(-1)?.role === "assistant") {
    throw refuse("messages", "takes no conversation that ends with a message of the assistant");
  }
  if (basePrompts === "chat-start") checkFirstToken(generation, forcedTokens, refuse);
  return input.messages.map(({ role, content }) => ({ role, content }));
}

type Refuse = (param: string, reason: string) => AppError;

function checkFirstToken(
  { maxTokens }: SentGeneration,
  forcedTokens: TokenIds | null,
  refuse: Refuse,
): void {
  const count = forcedTokens?.length;
  if (count !== undefined && count !== 1) {
    throw refuse(
      "completion",
      `cannot continue a reply, so only choices of one token are scored; this one has ${count}`,
    );
  }
  if (count === undefined && maxTokens > 1) {
    throw refuse("max_tokens", "cannot continue a reply, so it must be at most 1");
  }
}
