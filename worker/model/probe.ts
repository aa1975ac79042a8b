/** Whether a prepared graph computes what its original does: both run the same few tokens. */
import type { Decoder } from "./decoder.ts";

/** Logits of the probe's tokens. */
export interface Probed {
  /** One sequence: after two single tokens, then after several at once. */
  readonly alone: readonly Float32Array[];
  /** Two sequences of different lengths that take their turns together. */
  readonly together: readonly Float32Array[];
}

export async function probe(decoder: Decoder): Promise<Probed> {
  const [long, short] = [decoder.open(), decoder.open()];
  await decoder.prefill(long, [1, 2, 3, 4, 5]);
  await decoder.prefill(short, [7, 6]);
  const alone: Float32Array[] = [];
  // The second token meets a cache with room to spare.
  for (const id of [6, 7]) alone.push(...(await decoder.decode([{ sequence: long, id }])));
  alone.push(...(await decoder.score(long, [3, 2, 1])));
  const together: Float32Array[] = [];
  for (const id of [4, 5]) {
    const turns = [long, short].map((sequence) => ({ sequence, id }));
    together.push(...(await decoder.decode(turns)));
  }
  decoder.close(long);
  decoder.close(short);
  return { alone, together };
}

/** Largest change of a logit, relative to the spread of its row. */
export interface Change {
  readonly alone: number;
  readonly together: number;
}

export function changeOf(probed: Probed, reference: Probed): Change {
  return {
    alone: difference(probed.alone, reference.alone),
    together: difference(probed.together, reference.together),
  };
}

/** Float32 sums in another order. */
const TOLERANCE = 1e-3;
/**
 * Activations that are rounded, to float16 or 8 bits, round the other way after the least change, and int8's scales
 * depend on what else is in a run. Seen: up to 0.05; graphs that saw masked rows were 0.3 to 0.7 off.
 */
const TOLERANCE_ROUNDED = 0.1;

/** @param rounds whether the graph rounds activations */
export function isRounding({ alone, together }: Change, rounds: boolean): boolean {
  const tolerance = rounds ? TOLERANCE_ROUNDED : TOLERANCE;
  // Not the other way around: NaN is no agreement.
  return alone <= tolerance && together <= tolerance;
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
