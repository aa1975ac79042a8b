/** The prompt in the replies of the OpenAI protocols: the text that `echo` repeats, and log-probabilities as vLLM has them. */
import type { PromptLogprobs } from "../api/prompt-logprobs.ts";
import type { PromptTokenLogprob } from "../api/token-details.ts";
import type { Input } from "../jobs/record.ts";
import { tokenBytes } from "./logprobs.ts";

/** The prompt as it was sent, or the text of its tokens. */
export function echoedText(input: Input, prompt: readonly PromptTokenLogprob[] = []): string {
  if (input.kind === "text") return input.text;
  // Without this option, the text would lose a leading U+FEFF.
  const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
  return decoder.decode(Uint8Array.from(prompt.flatMap(tokenBytes)));
}

/** @param count of the likeliest tokens at each position */
export function toPromptLogprobs(
  prompt: readonly PromptTokenLogprob[],
  count: number,
): PromptLogprobs {
  return prompt.map(({ id, token, logprob, rank, top }) => {
    if (logprob === null || rank === null) return null;
    const likeliest = top
      .slice(0, count)
      .map((other, i) => [
        String(other.id),
        { logprob: other.logprob, rank: i + 1, decoded_token: other.token },
      ]);
    const own = [String(id), { logprob, rank, decoded_token: token }];
    return Object.fromEntries([...likeliest, own]) as NonNullable<PromptLogprobs[number]>;
  });
}
