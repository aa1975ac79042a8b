/** How a generation whose prompt is scored begins: with what an earlier attempt has not logged yet. */
import type { PreparedGeneration } from "../engine-client/messages.ts";
import type { GenerateRequest } from "./loop/sequence.ts";

/** The log of an earlier attempt. */
interface Logged {
  /** Generated tokens. */
  readonly ids: readonly number[];
  /** Tokens of the prompt with their details. */
  readonly promptLogged: number;
}

/**
 * @param prompt the base's whole prompt
 * @returns members of the engine's request, and the first tokens of the prompt, which are not scored and not logged yet
 */
export function scoredPrompt(
  { generation, scoredPromptTokens }: PreparedGeneration,
  prompt: readonly number[],
  { ids, promptLogged }: Logged,
): {
  readonly request: Pick<GenerateRequest, "resume" | "scoredPrompt">;
  readonly unscored: number[];
} {
  if (scoredPromptTokens === null) return { request: { resume: ids }, unscored: [] };
  const firstScored = prompt.length - scoredPromptTokens;
  const tokens = prompt.slice(firstScored);
  const done = tokens.slice(0, Math.max(0, promptLogged - firstScored));
  return {
    request: {
      resume: [...done, ...ids],
      scoredPrompt: { tokens, logprobs: generation.promptLogprobs?.top ?? 0 },
    },
    unscored: prompt.slice(promptLogged, firstScored),
  };
}
