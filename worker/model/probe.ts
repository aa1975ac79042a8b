/**
 * Whether a prepared graph computes what its original does: both run the same few tokens. Weights that are quantized while
 * running (int8) make a token's logits depend on what else is in its run, so sequences that decode together may differ
 * from each alone by what the original itself differs by when the same tokens are grouped in another way.
 */
import type { Decoder } from "./decoder.ts";

export interface Probed {
  /** Logits after two single tokens, then after several that were run at once. */
  readonly alone: readonly Float32Array[];
  /** Those that were run at once, run one by one. */
  readonly regrouped: readonly Float32Array[];
  /** Logits of two sequences of different lengths that take their turns together. */
  readonly together: readonly Float32Array[];
}

const AT_ONCE = [3, 2, 1];

export async function probe(decoder: Decoder): Promise<Probed> {
  const [first, second, third] = [decoder.open(), decoder.open(), decoder.open()];
  await decoder.prefill(first, [1, 2, 3, 4, 5]);
  await decoder.prefill(second, [1, 2, 3, 4, 5, 6, 7]);
  await decoder.prefill(third, [7, 6]);
  const decodeEach = async (sequence: unknown, ids: readonly number[]) => {
    const rows: Float32Array[] = [];
    for (const id of ids) rows.push(...(await decoder.decode([{ sequence, id }])));
    return rows;
  };
  // The second token meets a cache with room to spare.
  const alone = await decodeEach(first, [6, 7]);
  alone.push(...(await decoder.score(first, AT_ONCE)));
  const regrouped = await decodeEach(second, AT_ONCE);
  const together: Float32Array[] = [];
  for (const id of [4, 5]) {
    const turns = [first, third].map((sequence) => ({ sequence, id }));
    together.push(...(await decoder.decode(turns)));
  }
  for (const sequence of [first, second, third]) decoder.close(sequence);
  return { alone, regrouped, together };
}

/** Largest change of a logit, relative to the spread of its row. */
export interface Change {
  readonly alone: number;
  readonly together: number;
}

export function changeOf(probed: Probed, reference: Probed): Change {
  return {
    alone: Math.max(
      difference(probed.alone, reference.alone),
      difference(probed.regrouped, reference.regrouped),
    ),
    together: difference(probed.together, reference.together),
  };
}

/** Changes that rounding explains. */
const TOLERANCE = 1e-3;
/** Other neighbours may do more than those of the reference did (2.1 times as much in the demo family's int8). */
const NEIGHBOURS = 4;

/** Whether a change is no more than rounding. Not "whether it is more": NaN is no agreement. */
export function isRounding({ alone, together }: Change, reference: Probed): boolean {
  const grouping = difference(reference.regrouped, reference.alone.slice(-AT_ONCE.length));
  return alone <= TOLERANCE && together <= Math.max(TOLERANCE, NEIGHBOURS * grouping);
}

/**
 * Largest difference of a logit in units of its row's spread (largest - smallest). Probabilities know differences only:
 * a change as small as 1 in 1,000 must not hide behind logits that all lie around 1,000.
 */
function difference(rows: readonly Float32Array[], reference: readonly Float32Array[]): number {
  let worst = 0;
  for (const [i, expected] of reference.entries()) {
    let [largest, lowest, highest] = [0, Infinity, -Infinity];
    for (const [id, logit] of expected.entries()) {
      lowest = Math.min(lowest, logit);
      highest = Math.max(highest, logit);
      largest = Math.max(largest, Math.abs(rows[i]![id]! - logit));
    }
    if (largest !== 0) worst = Math.max(worst, largest / (highest - lowest));
  }
  return worst;
}
