/**
 * Finds the last token that remains when a distribution is cut, in time that grows with the vocabulary and with nothing else: a
 * histogram over the bits of the logits takes the place of a sort. A token ranks before another one if its logit is larger, or
 * equal and its id lower.
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

/** Bits of a logit that the histograms look at, one after the other. */
const LEVELS = [12, 10, 10] as const;

/**
 * The first token in rank order with which the weights reach a goal; null if no tokens do.
 * @param logits [V]
 * @param weights [V] whole numbers below 2^53 in sum, so that sums are exact in any order; equal logits have equal weights
 * @param goal above 0
 */
export function borderAt(logits: Float32Array, weights: Float64Array, goal: number): Border | null {
  const keys = orderedBits(logits);
  let [prefix, above, shift] = [0, 0, 32];
  for (const bits of LEVELS) {
    shift -= bits;
    const sums = new Float64Array(2 ** bits);
    addWeights(sums, keys, weights, { prefix, shift, bits });
    let bin = sums.length - 1;
    while (bin > 0 && above + sums[bin]! < goal) above += sums[bin--]!;
    prefix = prefix * 2 ** bits + bin;
  }
  for (let id = 0; id < keys.length; id++) {
    if (keys[id] !== prefix) continue;
    above += weights[id]!;
    if (above >= goal) return { logit: logits[id]!, id };
  }
  return null;
}

/** Adds each weight to the sum of its key's bits from `shift` on, for the keys that begin with `prefix`. */
function addWeights(
  sums: Float64Array,
  keys: Uint32Array,
  weights: Float64Array,
  { prefix, shift, bits }: { prefix: number; shift: number; bits: number },
): void {
  const mask = sums.length - 1;
  const end = shift + bits;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!;
    // A shift by 32 would be one by 0.
    if (end < 32 && key >>> end !== prefix) continue;
    sums[(key >>> shift) & mask]! += weights[i]!;
  }
}

/** Unsigned integers in the order of the logits. NaN comes first. */
function orderedBits(logits: Float32Array): Uint32Array {
  const bits = new Int32Array(logits.buffer, logits.byteOffset, logits.length);
  const keys = new Uint32Array(logits.length);
  for (let i = 0; i < keys.length; i++) {
    const word = bits[i]!;
    if ((word & 0x7fff_ffff) > 0x7f80_0000) continue;
    // -0 is equal to 0.
    keys[i] = word >= 0 || word === -0x8000_0000 ? word | 0x8000_0000 : ~word;
  }
  return keys;
}
