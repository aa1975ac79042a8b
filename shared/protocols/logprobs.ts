/** Log-probabilities as the OpenAI protocols have them. */
import type { ChatLogprobs, CompletionLogprobs } from "../api/chat-and-completions.ts";
import type {
  PromptTokenLogprob,
  TokenDetails,
  TokenLogprob,
  TokenName,
} from "../api/token-details.ts";

/** `choices[].logprobs` of a chat; null if the request does not ask for them. */
export function toChatLogprobs({ logprobs }: TokenDetails): ChatLogprobs | null {
  if (logprobs === undefined) return null;
  const content = logprobs.map((entry) => ({
    ...toChatToken(entry),
    top_logprobs: entry.top.map(toChatToken),
  }));
  return { content, refusal: null };
}

function toChatToken(entry: TokenName & { readonly logprob: number }) {
  return { token: entry.token, logprob: entry.logprob, bytes: tokenBytes(entry) };
}

/** Builds `choices[].logprobs` of one choice of a completion, piece by piece: text offsets count from its first piece. */
export class CompletionLogprobsBuilder {
  /** Characters (code points) of the tokens so far. */
  #offset = 0;

  /**
   * The tokens of the prompt, before all others.
   * @param text of the choice before the output. Tokens that were added to it, such as a beginning-of-sequence token, have no place
   *   in it.
   * @param count of the likeliest tokens at each position
   */
  echo(prompt: readonly PromptTokenLogprob[], text: string, count: number): CompletionLogprobs {
    const length = Array.from(text).length;
    const tokensLength = prompt.reduce((sum, token) => sum + characterCount(token), 0);
    this.#offset = length - tokensLength;
    const offsets = prompt.map((token) => Math.max(0, this.#nextOffset(token)));
    return {
      tokens: prompt.map(tokenKey),
      token_logprobs: prompt.map(({ logprob }) => logprob),
      top_logprobs: prompt.map(({ logprob, ...token }) =>
        logprob === null
          ? null
          : topLogprobs({ ...token, logprob, top: token.top.slice(0, count) }),
      ),
      text_offset: offsets,
    };
  }

  /** @returns null if the request does not ask for log-probabilities */
  next({ logprobs }: TokenDetails): CompletionLogprobs | null {
    if (logprobs === undefined) return null;
    return {
      tokens: logprobs.map(tokenKey),
      token_logprobs: logprobs.map(({ logprob }) => logprob),
      top_logprobs: logprobs.map(topLogprobs),
      text_offset: logprobs.map((entry) => this.#nextOffset(entry)),
    };
  }

  #nextOffset(entry: TokenName): number {
    const offset = this.#offset;
    // A character that several tokens share counts with the token of its first byte.
    this.#offset += characterCount(entry);
    return offset;
  }
}

/** Characters that begin in a token. */
const characterCount = (entry: TokenName) =>
  tokenBytes(entry).filter((byte) => (byte & 0xc0) !== 0x80).length;

/** The parts in one. */
export function joinCompletionLogprobs(
  first: CompletionLogprobs,
  second: CompletionLogprobs | null,
): CompletionLogprobs {
  if (second === null) return first;
  return {
    tokens: [...first.tokens, ...second.tokens],
    token_logprobs: [...first.token_logprobs, ...second.token_logprobs],
    top_logprobs: [...first.top_logprobs, ...second.top_logprobs],
    text_offset: [...first.text_offset, ...second.text_offset],
  };
}

/** The likeliest tokens and the generated one, which need not be among them. */
function topLogprobs(
  entry: Pick<TokenLogprob, keyof TokenName | "logprob" | "top">,
): Record<string, number> {
  const tokens = [...entry.top, entry];
  return Object.fromEntries(tokens.map((token) => [tokenKey(token), token.logprob]));
}

/** The token's text as a key. As in OpenAI's API, a token that is not whole characters has a prefix, so no two keys are equal. */
const tokenKey = ({ token, bytes }: TokenName) => (bytes ? `bytes:${token}` : token);

export function tokenBytes({ token, bytes }: TokenName): readonly number[] {
  return bytes ?? [...new TextEncoder().encode(token)];
}
