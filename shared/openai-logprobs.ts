/** Log-probabilities in the shapes of the two OpenAI protocols. */
import type { TokenLogprob, TokenName, TokenReports } from "./reports.ts";

/** `choices[].logprobs` of a chat, or null where none were asked for. */
export function chatLogprobs({ logprobs }: TokenReports) {
  if (logprobs === undefined) return null;
  const content = logprobs.map((entry) => ({
    ...chatToken(entry),
    top_logprobs: entry.top.map(chatToken),
  }));
  return { content, refusal: null };
}

function chatToken(entry: TokenName & { readonly logprob: number }) {
  return { token: entry.token, logprob: entry.logprob, bytes: bytesOf(entry) };
}

/** `choices[].logprobs` of completions; an answer's pieces are given in order, as offsets count from its first. */
export class CompletionLogprobs {
  /** Characters (code points) of the tokens so far. */
  #offset = 0;

  next({ logprobs }: TokenReports): object | null {
    if (logprobs === undefined) return null;
    return {
      tokens: logprobs.map(keyOf),
      token_logprobs: logprobs.map(({ logprob }) => logprob),
      top_logprobs: logprobs.map(topOf),
      text_offset: logprobs.map((entry) => this.#place(entry)),
    };
  }

  #place(entry: TokenName): number {
    const at = this.#offset;
    // A character counts where its first byte is.
    this.#offset += bytesOf(entry).filter((byte) => (byte & 0xc0) !== 0x80).length;
    return at;
  }
}

/** The likeliest tokens and the one that was taken, which need not be one of them. */
function topOf(entry: TokenLogprob): Record<string, number> {
  const all = [...entry.top, entry];
  return Object.fromEntries(all.map((token) => [keyOf(token), token.logprob]));
}

/** Tokens that are not whole characters are marked, as OpenAI marks them: they are keys here, and differ. */
const keyOf = ({ token, bytes }: TokenName) => (bytes ? `bytes:${token}` : token);

function bytesOf({ token, bytes }: TokenName): readonly number[] {
  return bytes ?? [...new TextEncoder().encode(token)];
}
