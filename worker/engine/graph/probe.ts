/**
 * Compares the logits of a prepared graph with the original's: both run the same few tokens. In a prepared graph they are behind
 * the room for others, so an attention that uses places in the cache (chunks, sinks, a switch by length) sees them at other ones.
 */
import type { Decoder } from "../decoder/decoder.ts";

/** Logits of the probe's tokens. */
export interface ProbeLogits {
  /** One sequence: after each of two single tokens, then after each of three tokens in one run. */
  readonly single: readonly Float32Array[];
  /** Two sequences of different lengths in the same runs. */
  readonly batched: readonly Float32Array[];
}

/**
 * Runs the probe's tokens; the decoder must have no other open sequences.
 * @param room tokens for which the caches have room
 */
export async function probeLogits(decoder: Decoder, room = 0): Promise<ProbeLogits> {
  const [long, short] = [decoder.open(), decoder.open()];
  decoder.reserve?.(room);
  await decoder.prefill(long, [1, 2, 3, 4, 5]);
  await decoder.prefill(short, [7, 6]);
  const single: Float32Array[] = [];
  // At the second token the cache has unused capacity.
  for (const id of [6, 7]) single.push(...(await decoder.decode([{ sequence: long, id }])));
  single.push(...(await decoder.score(long, [3, 2, 1])));
  const batched: Float32Array[] = [];
  for (const id of [4, 5]) {
    const inputs = [long, short].map((sequence) => ({ sequence, id }));
    batched.push(...(await decoder.decode(inputs)));
  }
  decoder.close(long);
  decoder.close(short);
  return { single, batched };
}

/**
 * Whether several new tokens behind a cache have the logits that they have one by one. Older exports of optimum with
 * `use_cache_branch` were traced with one new token: some of them have no causal mask in that branch.
 */
export async function isCausalBehindCache(
  decoder: Decoder,
  isLowPrecision: boolean,
): Promise<boolean> {
  const [together, oneByOne] = [decoder.open(), decoder.open()];
  for (const sequence of [together, oneByOne]) await decoder.prefill(sequence, [1, 2, 3]);
  const logits = await decoder.score(together, [4, 5, 6]);
  const reference: Float32Array[] = [];
  for (const id of [4, 5, 6]) {
    reference.push(...(await decoder.decode([{ sequence: oneByOne, id }])));
  }
  decoder.close(together);
  decoder.close(oneByOne);
  return isWithinTolerance(
    { single: largestChange(logits, reference), batched: 0 },
    isLowPrecision,
  );
}

const ROOM_MAX = 8_256;
/** Room that is left for the probe's tokens, because a run has at most as many entries and tokens as the context. */
const TOKENS_MAX = 64;
/** Bytes of the caches in a probe: 8,192 tokens of a model of 8B parameters. */
const ROOM_BYTES = 2 ** 30;

/** The room for a probe: almost the context, so that every switch by length is earlier, as far as it fits the memory. */
export function probeRoom(contextTokens: number | null, bytesPerToken: number): number {
  const fitting = Math.floor(ROOM_BYTES / (2 * bytesPerToken));
  return Math.max(0, Math.min((contextTokens ?? Infinity) - TOKENS_MAX, fitting, ROOM_MAX));
}

/** Largest change of a logit, relative to the range (largest - smallest) of the logits of its token. */
export interface LogitsChange {
  readonly single: number;
  readonly batched: number;
}

export function compareLogits(logits: ProbeLogits, reference: ProbeLogits): LogitsChange {
  return {
    single: largestChange(logits.single, reference.single),
    batched: largestChange(logits.batched, reference.batched),
  };
}

/** For float32, where only the order of additions differs. */
const TOLERANCE = 1e-3;
/**
 * For activations that are rounded to float16 or 8 bits: a tiny change may make them round the other way, and int8 scales
 * depend on the other rows of a run. Measured: up to 0.05, and 0.3 to 0.7 for graphs that did not respect the mask.
 */
const LOW_PRECISION_TOLERANCE = 0.1;

/** Whether a change is no more than rounding. @param isLowPrecision whether the graph rounds activations */
export function isWithinTolerance(
  { single, batched }: LogitsChange,
  isLowPrecision: boolean,
): boolean {
  const tolerance = isLowPrecision ? LOW_PRECISION_TOLERANCE : TOLERANCE;
  // A comparison with NaN is false, so NaN is not within tolerance.
  return single <= tolerance && batched <= tolerance;
}

/**
 * Relative to the range because probabilities depend only on differences of logits: a change of 1 must not look small
 * because all logits are around 1,000.
 */
function largestChange(rows: readonly Float32Array[], reference: readonly Float32Array[]): number {
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
