/**
 * Measures a token for the reply: its log-probabilities in the steered distribution (`logprobs`), and how steering changed
 * the base's distribution (`trace`). It changes nothing, depends only on the logits and the token of one position, and
 * knows token ids, not texts.
 */
import {
  compareDistributions,
  type DistributionChange,
  type TokenValue,
} from "./distribution-change.ts";
import { logSumExp } from "./exp.ts";
import { topIds } from "./truncate.ts";

/** Natural logarithms of probabilities in the steered distribution at temperature 1. */
export interface Logprobs {
  readonly logprob: number;
  /** The most likely tokens, most likely first. */
  readonly top: readonly TokenValue[];
}

/** The changes that steering made at one position. Log-probabilities are those of the chosen token, in nats. */
export interface SteeringTrace {
  /** The alpha after schedule and guards are applied. */
  readonly alpha: number;
  readonly base: number;
  /** Null if expert and antiexpert are not run. */
  readonly expert: number | null;
  readonly antiexpert: number | null;
  readonly steered: number;
  /** steered - base. */
  readonly gain: number;
  /** KL(steered || base), in nats. */
  readonly kl: number;
  /** The token that the base alone would give here, with the same seed and sampling. */
  readonly baseToken: number;
  /** Tokens whose probability rose most, largest change first. */
  readonly promoted: readonly TokenValue[];
  /** Tokens whose probability fell most, largest change first. */
  readonly demoted: readonly TokenValue[];
}

/** A token of the prompt. */
export interface PromptLogprobs extends Logprobs {
  /** The token's place by probability, from 1. */
  readonly rank: number;
}

/** Tokens of a position that the request asks for, with their log-probabilities in the steered distribution. */
export interface Candidates {
  /** The likeliest tokens, the likeliest first; absent if the request names the tokens. */
  readonly ids?: readonly number[];
  readonly logprobs: readonly number[];
}

/** How many of the likeliest tokens, or which tokens. */
export type CandidateOptions = { readonly top: number } | { readonly ids: readonly number[] };

export interface TokenAnalysis {
  readonly candidates?: Candidates;
  /** Only for tokens of the prompt, which have nothing else. */
  readonly prompt?: PromptLogprobs;
  /** The probability of the tokens that the response format forbids; absent without a response format. */
  readonly masked?: number;
  readonly logprobs?: Logprobs;
  readonly trace?: SteeringTrace;
  /** With a trace: the token was drafted, and the draft was right. It is no property of the position, unlike the rest. */
  readonly isDrafted?: boolean;
  /** With a trace and a remote base: bound of the distance to the exact distribution, 0 if the token is proven. */
  readonly baseError?: number;
}

/** The models' logits [V] at a position; several experts or antiexperts are averaged. Null if they are not run. */
export interface ModelLogits {
  readonly base: Float32Array;
  readonly expert: Float32Array | null;
  readonly antiexpert: Float32Array | null;
}

/** The logits [V] of a position, and the token that was chosen from them. */
export interface DecodedPosition extends ModelLogits {
  readonly steered: Float32Array;
  readonly alpha: number;
  readonly token: number;
  readonly baseToken: number;
}

export interface AnalysisOptions {
  /** Number of most likely tokens to list; null for no log-probabilities at all. */
  readonly logprobs: number | null;
  readonly trace: boolean;
  /** Absent for none. */
  readonly candidates?: CandidateOptions;
}

/** Reported for a log-probability of -Infinity, which JSON does not have; OpenAI uses the same number. */
export const LOGPROB_MIN = -9_999;

/**
 * Rounds to four decimals. A model's logits differ by up to 1e-4 between a batch and a run alone, so more decimals would
 * be noise; and the numbers are stored in the job's event log.
 */
export const roundDecimals = (value: number) =>
  Math.round(Math.max(LOGPROB_MIN, value) * 1e4) / 1e4 + 0;

/** Analyzes the tokens of one sequence. */
export class TokenAnalyzer {
  readonly #options: AnalysisOptions;

  constructor(options: AnalysisOptions) {
    this.#options = options;
  }

  /** Whether `DecodedPosition.baseToken` is read: sampling it costs time. */
  get needsBaseToken(): boolean {
    return this.#options.trace;
  }

  /** Does not keep references to the logits. */
  analyze(position: DecodedPosition): TokenAnalysis {
    const { logprobs, trace, candidates } = this.#options;
    const { base, steered, token, alpha } = position;
    const change = trace && alpha !== 0 ? compareDistributions(base, steered) : null;
    const steeredLogSum = change?.steeredLogSum ?? logSumExp(steered);
    return {
      ...(logprobs !== null && {
        logprobs: tokenLogprobs(steered, steeredLogSum, token, logprobs),
      }),
      ...(trace && { trace: traceOf(position, change, steeredLogSum) }),
      ...(candidates && { candidates: candidateLogprobs(steered, steeredLogSum, candidates) }),
    };
  }
}

/** @param change null if the steered distribution is the base's */
function traceOf(
  { base, expert, antiexpert, steered, token, alpha, baseToken }: DecodedPosition,
  change: DistributionChange | null,
  steeredLogSum: number,
): SteeringTrace {
  const baseLogprob = base[token]! - (change?.baseLogSum ?? steeredLogSum);
  const steeredLogprob = steered[token]! - steeredLogSum;
  return {
    alpha: roundDecimals(alpha),
    base: roundDecimals(baseLogprob),
    expert: expert && roundDecimals(expert[token]! - logSumExp(expert)),
    antiexpert: antiexpert && roundDecimals(antiexpert[token]! - logSumExp(antiexpert)),
    steered: roundDecimals(steeredLogprob),
    gain: roundDecimals(steeredLogprob - baseLogprob),
    kl: roundDecimals(change?.kl ?? 0),
    baseToken,
    promoted: change?.promoted.map(roundValue) ?? [],
    demoted: change?.demoted.map(roundValue) ?? [],
  };
}

/** @param count how many of the most likely tokens to list */
function tokenLogprobs(
  steered: Float32Array,
  logSum: number,
  token: number,
  count: number,
): Logprobs {
  const top = count === 0 ? [] : topIds(steered, count);
  return {
    logprob: roundDecimals(steered[token]! - logSum),
    top: top
      // Tokens that a guard or a model masks are not listed.
      .filter((id) => steered[id]! > Number.NEGATIVE_INFINITY)
      .map((id) => ({ id, value: roundDecimals(steered[id]! - logSum) })),
  };
}

function candidateLogprobs(
  steered: Float32Array,
  logSum: number,
  options: CandidateOptions,
): Candidates {
  const ids = "ids" in options ? options.ids : topIds(steered, options.top);
  const logprobs = ids.map((id) => roundDecimals(steered[id]! - logSum));
  return "ids" in options ? { logprobs } : { ids, logprobs };
}

/** The token's place by logit, from 1. */
export function rankOf(logits: Float32Array, token: number): number {
  const own = logits[token]!;
  let rank = 1;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > own) rank++;
  return rank;
}

const roundValue = ({ id, value }: TokenValue): TokenValue => ({ id, value: roundDecimals(value) });
