/**
 * Which tokens' details belong to the message of a response: all, unless calls follow it. Then they are those that begin before
 * its text ends; tokens of calls belong to no message. Streams and later readings use the same rule, so they are equal.
 */
import { joinTokenDetails, type TokenDetails } from "../api/token-details.ts";
import { tokenBytes } from "./logprobs.ts";

/** The details of a message whose text calls follow. Without log-probabilities nothing tells where tokens begin. */
export function beforeCalls(details: TokenDetails, text: string): TokenDetails {
  const { logprobs, trace, ...others } = details;
  if (logprobs === undefined) return details;
  const textBytes = bytesOf(text);
  let bytes = 0;
  const end = logprobs.findIndex((entry) => {
    const startsAt = bytes;
    bytes += tokenBytes(entry).length;
    return startsAt >= textBytes;
  });
  const count = end === -1 ? logprobs.length : end;
  return {
    ...others,
    logprobs: logprobs.slice(0, count),
    ...(trace && { trace: trace.slice(0, count) }),
  };
}

/** The details of the tokens of a message while it is streamed: a token goes with the piece of text that it begins in. */
export class MessageTokens {
  readonly #pending: { readonly startsAt: number; readonly details: TokenDetails }[] = [];
  /** Bytes of all tokens so far. */
  #bytes = 0;
  /** Bytes of the message's text so far. */
  #textBytes = 0;

  push({ logprobs = [], trace = [] }: TokenDetails): void {
    for (let i = 0; i < Math.max(logprobs.length, trace.length); i++) {
      const [entry, shift] = [logprobs[i], trace[i]];
      const details = { ...(entry && { logprobs: [entry] }), ...(shift && { trace: [shift] }) };
      this.#pending.push({ startsAt: logprobs.length === 0 ? 0 : this.#bytes, details });
      if (entry) this.#bytes += tokenBytes(entry).length;
    }
  }

  /**
   * The details that were not taken yet of the tokens that begin within the text of the message.
   * @param delta what this text has more than at the call before
   */
  take(delta: string): TokenDetails {
    this.#textBytes += bytesOf(delta);
    if (this.#pending.length === 0) return {};
    const end = this.#pending.findIndex(({ startsAt }) => startsAt >= this.#textBytes);
    return joined(this.#pending.splice(0, end === -1 ? this.#pending.length : end));
  }

  /** All details that were not taken yet; null for none. */
  rest(): TokenDetails | null {
    return this.#pending.length === 0 ? null : joined(this.#pending.splice(0));
  }
}

const joined = (tokens: readonly { readonly details: TokenDetails }[]) =>
  joinTokenDetails(tokens.map(({ details }) => details));

const bytesOf = (text: string) => new TextEncoder().encode(text).length;
