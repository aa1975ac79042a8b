/**
 * What is told of a position: log-probabilities of the steered distribution, and what steering did to the base's. It
 * changes nothing, depends on the position's logits and token alone, and knows token ids, not texts.
 */
import { logSumExp, maxOf, weigh } from "./exp.ts";
import { topIds } from "./truncate.ts";

/** A token and a number of it. */
export interface Rated {
  readonly id: number;
  readonly value: number;
}

/** Natural logarithms, from the steered distribution at temperature 1. */
export interface Logprobs {
  readonly logprob: number;
  /** The likeliest tokens, likeliest first. */
  readonly top: readonly Rated[];
}

/** What steering did at one position. Log-probabilities are of the token that was taken, in nats. */
export interface Shift {
  /** Strength that was left after schedule and guards. */
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
  /** What the base alone would have taken here, under the same seed and sampling. */
  readonly baseToken: number;
  /** Tokens whose probability rose and fell most, largest change first. */
  readonly promoted: readonly Rated[];
  readonly demoted: readonly Rated[];
}

export interface Report {
  /** The probability that a constraint took, of an output that has one. */
  readonly masked?: number;
  readonly logprobs?: Logprobs;
  readonly shift?: Shift;
}

/** The logits [V] of a position, and what came of them. */
export interface Position {
  readonly base: Float32Array;
  readonly expert: Float32Array | null;
  readonly antiexpert: Float32Array | null;
  readonly steered: Float32Array;
  readonly alpha: number;
  readonly token: number;
  readonly baseToken: number;
}

export interface ReportOptions {
  /** How many of the likeliest tokens to tell, or null for no log-probabilities at all. */
  readonly logprobs: number | null;
  readonly trace: boolean;
}

/** Promoted and demoted tokens told per position. */
const CHANGED_TOKENS_MAX = 3;
/** Half a step of what is told. */
const CHANGE_MIN = 5e-5;
/** As OpenAI says "as good as impossible": JSON has no -Infinity. */
export const LOGPROB_MIN = -9_999;

/**
 * Four decimals. The models' rows differ by up to 1e-4 between a batch and a run alone, so more would be noise, and these
 * numbers are in a log that is kept.
 */
export const round = (value: number) => Math.round(Math.max(LOGPROB_MIN, value) * 1e4) / 1e4 + 0;

/**
 * Makes the reports of one row. With names put to it and the base's own draw, a trace takes 60 to 85 µs of a step of 2.8 to
 * 3.6 ms: 2.3% (demo ensemble, V = 2,048, two cores); with 20 log-probabilities it is 4%.
 */
export class Reporter {
  readonly #options: ReportOptions;
  /** [V] exp(logit - max) of base and steered distribution. */
  readonly #base: Float32Array;
  readonly #steered: Float32Array;

  constructor(options: ReportOptions, vocabSize: number) {
    this.#options = options;
    this.#base = new Float32Array(vocabSize);
    this.#steered = new Float32Array(vocabSize);
  }

  /** Whether reports tell what the base would have taken. */
  get traces(): boolean {
    return this.#options.trace;
  }

  /** Keeps no reference to the logits. */
  report(position: Position): Report {
    const { logprobs, trace } = this.#options;
    const { steered, token } = position;
    const sums = trace && position.alpha !== 0 ? this.#weigh(position.base, steered) : null;
    const steeredSum = sums?.steeredLog ?? logSumExp(steered, this.#steered);
    return {
      ...(logprobs !== null && { logprobs: logprobsOf(steered, steeredSum, token, logprobs) }),
      ...(trace && { shift: this.#shift(position, sums, steeredSum) }),
    };
  }

  /** @param sums null where the steered distribution is the base's */
  #shift(position: Position, sums: Sums | null, steeredSum: number): Shift {
    const { base, expert, antiexpert, steered, token, alpha, baseToken } = position;
    // Before the scratch overwrites the weights.
    const changes = sums ? this.#changes(sums) : { promoted: [], demoted: [] };
    const scratch = this.#base;
    const baseLogprob = base[token]! - (sums?.baseLog ?? steeredSum);
    const steeredLogprob = steered[token]! - steeredSum;
    return {
      alpha: round(alpha),
      base: round(baseLogprob),
      expert: expert && round(expert[token]! - logSumExp(expert, scratch)),
      antiexpert: antiexpert && round(antiexpert[token]! - logSumExp(antiexpert, scratch)),
      steered: round(steeredLogprob),
      gain: round(steeredLogprob - baseLogprob),
      kl: round(sums?.kl ?? 0),
      baseToken,
      ...changes,
    };
  }

  /** Fills the weights and sums them up. */
  #weigh(base: Float32Array, steered: Float32Array): Sums {
    const [baseMax, steeredMax] = [maxOf(base), maxOf(steered)];
    const baseSum = weigh(this.#base, base, baseMax);
    const steeredSum = weigh(this.#steered, steered, steeredMax);
    const baseLog = baseMax + Math.log(baseSum);
    const steeredLog = steeredMax + Math.log(steeredSum);
    const gain = weightedGain(this.#steered, steered, base) / steeredSum;
    // Rounding may leave a KL of zero a little below it.
    return {
      baseSum,
      steeredSum,
      baseLog,
      steeredLog,
      kl: Math.max(0, gain - steeredLog + baseLog),
    };
  }

  #changes({ baseSum, steeredSum }: Sums): { promoted: Rated[]; demoted: Rated[] } {
    const promoted: Rated[] = [];
    const demoted: Rated[] = [];
    const [base, steered] = [this.#base, this.#steered];
    collectChanges(promoted, demoted, base, steered, 1 / baseSum, 1 / steeredSum);
    return { promoted: promoted.map(rounded), demoted: demoted.map(rounded) };
  }
}

/** Sum of weight * (steered - base). */
function weightedGain(weights: Float32Array, steered: Float32Array, base: Float32Array): number {
  let gain = 0;
  for (let i = 0; i < weights.length; i++) {
    // Not where there is no weight: 0 * -Infinity is no number.
    if (weights[i]! > 0) gain += weights[i]! * (steered[i]! - base[i]!);
  }
  return gain;
}

/** Fills the lists with the largest changes of probability, weight * scale. */
function collectChanges(
  promoted: Rated[],
  demoted: Rated[],
  base: Float32Array,
  steered: Float32Array,
  baseScale: number,
  steeredScale: number,
): void {
  // What rounds to nothing is not told.
  let least = CHANGE_MIN;
  let most = -CHANGE_MIN;
  for (let id = 0; id < base.length; id++) {
    const change = steered[id]! * steeredScale - base[id]! * baseScale;
    if (change > least) least = insert(promoted, { id, value: change }, CHANGE_MIN);
    else if (change < most) most = -insert(demoted, { id, value: change }, CHANGE_MIN);
  }
}

/** Sums of the weights, their logarithms in nats, and KL(steered || base). */
interface Sums {
  readonly baseSum: number;
  readonly steeredSum: number;
  readonly baseLog: number;
  readonly steeredLog: number;
  readonly kl: number;
}

/**
 * Puts a change among the largest, at its rank; of equals the lower id comes first.
 * @returns the size that the next must exceed: `floor` while there is room
 */
function insert(largest: Rated[], change: Rated, floor: number): number {
  const size = Math.abs(change.value);
  let at = largest.length;
  while (at > 0 && Math.abs(largest[at - 1]!.value) < size) at--;
  largest.splice(at, 0, change);
  if (largest.length > CHANGED_TOKENS_MAX) largest.pop();
  return largest.length < CHANGED_TOKENS_MAX ? floor : Math.abs(largest.at(-1)!.value);
}

function logprobsOf(steered: Float32Array, sum: number, token: number, count: number): Logprobs {
  const top = count === 0 ? [] : topIds(steered, count);
  return {
    logprob: round(steered[token]! - sum),
    top: top
      // What a guard or a model masks is no alternative.
      .filter((id) => steered[id]! > Number.NEGATIVE_INFINITY)
      .map((id) => ({ id, value: round(steered[id]! - sum) })),
  };
}

const rounded = ({ id, value }: Rated): Rated => ({ id, value: round(value) });
