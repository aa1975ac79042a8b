/**
 * Finds the last token that remains when a distribution is cut, in time that grows with the vocabulary and with nothing else: a
 * histogram of the logits takes the place of a sort. Where one bin has too many tokens for a sort, a histogram of it follows, and so
 * on. A token ranks before another one if its logit is larger, or equal and its id lower.
 */
import { BINS } from "./simd/layout.ts";
import {
  addressOf,
  doublesAddress,
  doublesOf,
  histograms,
  integersOf,
  kernels,
  reserve,
} from "./simd/vectors.ts";

/** The token that ranks last among those that remain. */
export interface Border {
  readonly logit: number;
  readonly id: number;
}

/** All tokens remain. */
export const NO_BORDER: Border = {
  logit: Number.NEGATIVE_INFINITY,
  id: Number.POSITIVE_INFINITY,
};

/** Whether a token remains. */
export function isInside(logit: number, id: number, border: Border): boolean {
  return logit > border.logit || (logit === border.logit && id <= border.id);
}

/** The border that leaves fewer tokens; null leaves all. */
export function narrower(a: Border | null, b: Border | null): Border | null {
  if (!a || !b) return a ?? b;
  return isInside(a.logit, a.id, b) ? a : b;
}

/**
 * Sets the logits of the tokens that do not remain to -Infinity.
 * @param ranked the logits that decide
 * @param border null leaves all tokens
 */
export function maskOutside(
  logits: Float32Array,
  ranked: Float32Array,
  border: Border | null,
): void {
  if (!border) return;
  const { logit, id } = border;
  for (let i = 0; i < logits.length; i++) {
    const own = ranked[i]!;
    if (!(own > logit || (own === logit && i <= id))) logits[i] = Number.NEGATIVE_INFINITY;
  }
}

/** Lower logits have weights that are rounded to 0; they share the lowest bin. */
const RANGE_MAX = 64;
/** With more tokens in a bin, a histogram of the bin follows. */
const SORTED_MAX = 256;

/** Tokens that hold the border, with the weight of all tokens that rank before them. */
interface Part {
  readonly ids: Int32Array;
  readonly above: number;
}

/**
 * The first token in rank order with which the weights reach a goal; null if no tokens do. Uses the vectors of simd/.
 * @param logits [V], which are in the first vector too. Their weights are in that of doubles: whole numbers below 2^53 in sum, so that
 *   sums are exact in any order; equal logits have equal weights
 * @param goal above 0
 */
export function borderAt(
  logits: Float32Array,
  { min, max }: { readonly min: number; readonly max: number },
  goal: number,
): Border | null {
  const length = reserve(logits.length);
  const low = Math.max(min, max - RANGE_MAX);
  const factor = (BINS - 1) / (max - low);
  // All have bin 0 if they are equal or if one is infinite.
  const binning = Number.isFinite(factor) ? ([low, factor] as const) : ([0, 0] as const);
  const sums = histograms().fill(0);
  kernels.histogram(addressOf(0), doublesAddress(), length, ...binning);
  for (let bin = 0; bin < BINS; bin++) sums[bin]! += sums[BINS + bin]!;
  const { bin, above } = binAt(sums, 0, goal);
  const count = kernels.tokensInBin(addressOf(1), addressOf(0), length, ...binning, bin);
  const ids = withoutNaN(logits, integersOf(1, count));
  return borderIn(logits, doublesOf(length), goal, { ids, above });
}

/** Overwrites the ids. Leaves out those beyond the vocabulary too, which the kernels' length has added. */
function withoutNaN(logits: Float32Array, ids: Int32Array): Int32Array {
  let count = 0;
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    ids[count] = id;
    if (id < logits.length && logits[id]! >= Number.NEGATIVE_INFINITY) count++;
  }
  return ids.subarray(0, count);
}

function borderIn(
  logits: Float32Array,
  weights: Float64Array,
  goal: number,
  part: Part,
): Border | null {
  let { ids, above } = part;
  while (ids.length > SORTED_MAX) {
    if (areEqual(logits, ids)) return borderAmongEqual(logits, weights, goal, { ids, above });
    ({ ids, above } = narrowerPart(logits, weights, goal, { ids, above }));
  }
  ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
  let sum = above;
  for (const id of ids) {
    sum += weights[id]!;
    if (sum >= goal) return { logit: logits[id]!, id };
  }
  return null;
}

function areEqual(logits: Float32Array, ids: Int32Array): boolean {
  const first = logits[ids[0]!]!;
  for (let i = 1; i < ids.length; i++) if (logits[ids[i]!] !== first) return false;
  return true;
}

/** The ids are in order. Those behind a border of equal logits have no weight. */
function borderAmongEqual(
  logits: Float32Array,
  weights: Float64Array,
  goal: number,
  { ids, above }: Part,
): Border | null {
  const weight = weights[ids[0]!]!;
  let count = Math.ceil((goal - above) / weight);
  // The division is rounded, the products are exact.
  while (above + (count - 1) * weight >= goal) count--;
  while (above + count * weight < goal) count++;
  const id = ids[count - 1];
  return id === undefined || weights[id] === 0 ? null : { logit: logits[id]!, id };
}

/** The tokens of the bin that holds the border. Not all tokens are in one bin, if they differ. */
function narrowerPart(
  logits: Float32Array,
  weights: Float64Array,
  goal: number,
  { ids, above }: Part,
): Part {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < ids.length; i++) {
    const logit = logits[ids[i]!]!;
    if (logit > max && logit < Number.POSITIVE_INFINITY) max = logit;
    if (logit < min && logit > Number.NEGATIVE_INFINITY) min = logit;
  }
  // The first bin and the last one are for infinite logits.
  const factor = max > min ? (BINS - 3) / (max - min) : 0;
  const bins = integersOf(2, ids.length);
  const sums = histograms().subarray(0, BINS).fill(0);
  for (let i = 0; i < ids.length; i++) {
    const logit = logits[ids[i]!]!;
    let bin = logit === Number.POSITIVE_INFINITY ? BINS - 1 : 0;
    if (logit - logit === 0) bin = 1 + Math.floor((logit - min) * factor);
    bins[i] = bin;
    sums[bin]! += weights[ids[i]!]!;
  }
  const found = binAt(sums, above, goal);
  let count = 0;
  for (let i = 0; i < ids.length; i++) if (bins[i] === found.bin) ids[count++] = ids[i]!;
  return { ids: ids.subarray(0, count), above: found.above };
}

/** The bin with which the sums from the last one on reach a goal, and the sum of those behind it. */
function binAt(sums: Float64Array, already: number, goal: number): { bin: number; above: number } {
  let [bin, above] = [BINS - 1, already];
  while (bin > 0 && above + sums[bin]! < goal) above += sums[bin--]!;
  return { bin, above };
}
