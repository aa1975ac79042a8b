/** Measures how steering changed a distribution: the distance to the base's, and the tokens whose probability changed most. */
import { extremesOf } from "./exp.ts";
import { addressOf, floatsOf, kernels, reserve } from "./simd/vectors.ts";

/** A token with its log-probability or its change of probability. */
export interface TokenValue {
  readonly id: number;
  readonly value: number;
}

export interface DistributionChange {
  /** Log-sum-exp of the logits, in nats. */
  readonly baseLogSum: number;
  readonly steeredLogSum: number;
  /** KL(steered || base), in nats. */
  readonly kl: number;
  /** Tokens whose probability rose most, largest change first. */
  readonly promoted: readonly TokenValue[];
  /** Tokens whose probability fell most, largest change first. */
  readonly demoted: readonly TokenValue[];
}

/** Promoted tokens that are listed per position, and demoted ones. */
const CHANGED_TOKENS_MAX = 3;
/** Smaller changes would be rounded to 0. */
const CHANGE_MIN = 5e-5;

/** @param base, steered [V] logits */
export function compareDistributions(
  base: Float32Array,
  steered: Float32Array,
): DistributionChange {
  const length = reserve(base.length);
  const [baseMax, steeredMax] = [extremesOf(base, 0).max, extremesOf(steered, 1).max];
  const [baseLogits, steeredLogits] = [addressOf(0), addressOf(1)];
  const [baseWeights, steeredWeights] = [addressOf(2), addressOf(3)];
  const baseSum = kernels.expFloats(baseWeights, baseLogits, length, baseMax);
  const steeredSum = kernels.expFloats(steeredWeights, steeredLogits, length, steeredMax);
  const baseLogSum = baseMax + Math.log(baseSum);
  const steeredLogSum = steeredMax + Math.log(steeredSum);
  const gain = kernels.weightedGain(steeredWeights, steeredLogits, baseLogits, length) / steeredSum;
  return {
    baseLogSum,
    steeredLogSum,
    // Rounding may give a KL slightly below zero.
    kl: Math.max(0, gain - steeredLogSum + baseLogSum),
    ...largestChanges(base.length, 1 / baseSum, 1 / steeredSum),
  };
}

/** A probability is weight * scale; the base's weights are in the third vector of simd/, the steered ones in the fourth. */
function largestChanges(
  size: number,
  baseScale: number,
  steeredScale: number,
): { promoted: TokenValue[]; demoted: TokenValue[] } {
  const [base, steered, length] = [floatsOf(2, size), floatsOf(3, size), reserve(size)];
  const [others, weights] = [addressOf(2), addressOf(3)];
  const promoted: TokenValue[] = [];
  const demoted: TokenValue[] = [];
  // Only changes beyond these bounds are listed. The bounds become stricter when a list is full.
  let [max, min] = [CHANGE_MIN, -CHANGE_MIN];
  const nextFrom = (from: number) =>
    from < size
      ? kernels.findChange(weights, others, from, length, steeredScale, baseScale, max, min)
      : size;
  for (let id = nextFrom(0); id < size; id = nextFrom(id + 1)) {
    const change = steered[id]! * steeredScale - base[id]! * baseScale;
    if (change > max) max = insertChange(promoted, { id, value: change });
    else if (change < min) min = -insertChange(demoted, { id, value: change });
  }
  return { promoted, demoted };
}

/**
 * Inserts a change into a list of the largest ones, at its rank; of equal changes the lower id comes first.
 * @returns the size that the next change must exceed
 */
function insertChange(largest: TokenValue[], change: TokenValue): number {
  const size = Math.abs(change.value);
  let at = largest.length;
  while (at > 0 && Math.abs(largest[at - 1]!.value) < size) at--;
  largest.splice(at, 0, change);
  if (largest.length > CHANGED_TOKENS_MAX) largest.pop();
  return largest.length < CHANGED_TOKENS_MAX ? CHANGE_MIN : Math.abs(largest.at(-1)!.value);
}
