/** What is told of tokens beside their text: log-probabilities and the shift trace, in the log and in replies. */

/** What was asked to be told of tokens: one entry for each id, in order. */
export interface TokenReports {
  readonly logprobs?: readonly TokenLogprob[];
  readonly trace?: readonly TokenShift[];
  /** Of outputs with a response format, in any case: see TokenShift. */
  readonly masked?: readonly number[];
}

/** A token by id and text. */
export interface TokenName {
  readonly id: number;
  /** Its text; bytes that are not whole characters as `\xf0\x9f`. */
  readonly token: string;
  /** Its bytes, where the text is not whole characters. */
  readonly bytes?: readonly number[];
}

/**
 * Natural logarithm of a token's probability in the steered distribution: after combining and guards, before penalties,
 * bias, temperature and truncation. Rounded to four decimals; -9999 is as good as impossible.
 */
export interface TokenLogprob extends TokenName {
  readonly logprob: number;
  /** The likeliest tokens at this place, likeliest first. */
  readonly top: readonly (TokenName & { readonly logprob: number })[];
}

/** What steering did to one token. Log-probabilities are the token's, in nats, as in TokenLogprob. */
export interface TokenShift {
  readonly id: number;
  /** Strength at this token. */
  readonly alpha: number;
  readonly base: number;
  /** Null where expert and antiexpert are not run. */
  readonly expert: number | null;
  readonly antiexpert: number | null;
  readonly steered: number;
  /** steered - base. */
  readonly gain: number;
  /** KL(steered || base), in nats. */
  readonly kl: number;
  /** Whether the base would have taken the same token here, under the same seed and sampling. */
  readonly same: boolean;
  /** The token that it would have taken. */
  readonly base_token: TokenName;
  /** Up to three tokens whose probability rose most, largest change first; and fell most. */
  readonly promoted: readonly (TokenName & { readonly change: number })[];
  readonly demoted: readonly (TokenName & { readonly change: number })[];
  /** The probability that the steered distribution gave to tokens that the response format forbids here. */
  readonly masked?: number;
}

/** What is told of one token. */
export interface TokenReport {
  readonly logprobs?: TokenLogprob;
  readonly trace?: TokenShift;
  readonly masked?: number;
}

/** The reports of successive tokens as one. */
export function gatherReports(reports: readonly TokenReport[]): TokenReports {
  return joinReports(
    reports.map(({ logprobs, trace, masked }) => ({
      ...(logprobs && { logprobs: [logprobs] }),
      ...(trace && { trace: [trace] }),
      ...(masked !== undefined && { masked: [masked] }),
    })),
  );
}

/** The reports of successive runs of tokens as one. */
export function joinReports(parts: readonly TokenReports[]): TokenReports {
  const logprobs = parts.flatMap((part) => part.logprobs ?? []);
  const trace = parts.flatMap((part) => part.trace ?? []);
  const masked = parts.flatMap((part) => part.masked ?? []);
  return {
    ...(logprobs.length > 0 && { logprobs }),
    ...(trace.length > 0 && { trace }),
    ...(masked.length > 0 && { masked }),
  };
}
