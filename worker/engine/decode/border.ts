/**
 * Finds the last token that remains when a distribution is cut, in time that grows with the vocabulary and with nothing else: a
 * histogram of the logits takes the place of a sort. Where one bin has too many tokens for a sort, histograms over the bits of
 * their logits follow. A token ranks before another one if its logit is larger, or equal and its id lower.
 */

/** The token that ranks last among those that remain. */
export interface Border {
  readonly logit: number;
  readonly id: number;
}

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

/** Bins of the first histogram. */
const BINS = 4_096;
/** Lower logits have weights that are rounded to 0; they share the lowest bin. */
const RANGE_MAX = 64;
/** With more tokens in a bin, histograms over the bits of their logits follow. */
const SORTED_MAX = 1_024;
const BITS = [12, 10, 10] as const;

/**
 * The first token in rank order with which the weights reach a goal; null if no tokens do.
 * @param logits [V]
 * @param weights [V] whole numbers below 2^53 in sum, so that sums are exact in any order; equal logits have equal weights
 * @param goal above 0
 */
export function borderAt(logits: Float32Array, weights: Float64Array, goal: number): Border | null {
  const { low, scale } = binning(logits);
  const sums = new Float64Array(BINS);
  for (let id = 0; id < logits.length; id++) {
    const place = (logits[id]! - low) * scale;
    sums[place > 0 ? place | 0 : 0]! += weights[id]!;
  }
  const { bin, above } = binAt(sums, 0, goal);
  const inBin = tokensIn(logits, bin, { low, scale });
  if (inBin.length > SORTED_MAX) return borderByBits(logits, weights, { ids: inBin, above, goal });
  const ranked = inBin
    .filter((id) => !Number.isNaN(logits[id]))
    .sort((a, b) => logits[b]! - logits[a]! || a - b);
  let sum = above;
  for (const id of ranked) {
    sum += weights[id]!;
    if (sum >= goal) return { logit: logits[id]!, id };
  }
  return null;
}

/** A logit's bin is (logit - low) * scale, rounded down; all have bin 0 if they are equal or if one is infinite. */
function binning(logits: Float32Array): { low: number; scale: number } {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (logit > max) max = logit;
    if (logit < min && logit > Number.NEGATIVE_INFINITY) min = logit;
  }
  const low = Math.max(min, max - RANGE_MAX);
  const scale = (BINS - 1) / (max - low);
  return Number.isFinite(scale) ? { low, scale } : { low: 0, scale: 0 };
}

/** The bin with which the sums from the last one on reach a goal, and the sum of those behind it. */
function binAt(sums: Float64Array, already: number, goal: number): { bin: number; above: number } {
  let [bin, above] = [sums.length - 1, already];
  while (bin > 0 && above + sums[bin]! < goal) above += sums[bin--]!;
  return { bin, above };
}

/** New arrays of a vocabulary's size take as long as a pass over it, because their memory is cleared. */
let scratch = new Int32Array(0);

/** The tokens of a bin, in order of their ids; the next call overwrites them. */
function tokensIn(
  logits: Float32Array,
  bin: number,
  { low, scale }: { low: number; scale: number },
): Int32Array {
  if (scratch.length < logits.length) scratch = new Int32Array(logits.length);
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    const place = (logits[id]! - low) * scale;
    if ((place > 0 ? place | 0 : 0) === bin) scratch[count++] = id;
  }
  return scratch.subarray(0, count);
}

/** As `borderAt`, among tokens of which `above` is the weight of those before them. */
function borderByBits(
  logits: Float32Array,
  weights: Float64Array,
  { ids, above, goal }: { ids: Int32Array; above: number; goal: number },
): Border | null {
  const words = new Int32Array(logits.buffer, logits.byteOffset, logits.length);
  let [prefix, sum, shift] = [0, above, 32];
  for (const bits of BITS) {
    shift -= bits;
    const sums = new Float64Array(2 ** bits);
    for (let i = 0; i < ids.length; i++) {
      const key = orderedBits(words[ids[i]!]!) >>> shift;
      // The first histogram has all tokens: a shift by 32 would be one by 0.
      if (shift === 32 - BITS[0] || key >>> bits === prefix) {
        sums[key & (sums.length - 1)]! += weights[ids[i]!]!;
      }
    }
    const found = binAt(sums, sum, goal);
    prefix = prefix * 2 ** bits + found.bin;
    sum = found.above;
  }
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (orderedBits(words[id]!) !== prefix) continue;
    sum += weights[id]!;
    if (sum >= goal) return { logit: logits[id]!, id };
  }
  return null;
}

/** An unsigned integer in the order of the logits, from the bits of one. NaN comes first, and -0 is equal to 0. */
function orderedBits(word: number): number {
  if ((word & 0x7fff_ffff) > 0x7f80_0000) return 0;
  return (word >= 0 || word === -0x8000_0000 ? word | 0x8000_0000 : ~word) >>> 0;
}
