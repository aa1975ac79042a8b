/** Truncation of the distribution before a draw: top-k, top-p (arXiv 1904.09751) and min-p (arXiv 2407.01082). */
import { borderAt, isInside, narrower, type Border } from "./border.ts";
import { maxOf, wholeWeights } from "./exp.ts";

/** Of the ids, each one of so many is looked at first: a sorted vocabulary would otherwise pass through the heap entirely. */
const SAMPLE_STEP = 64;

/**
 * Token ids of the k largest logits, largest first; of equal logits the lower id first.
 * A heap of the k best so far is kept, so the vocabulary is scanned once and few tokens enter the heap.
 */
export function topIds(logits: Float32Array, k: number): number[] {
  const size = Math.min(k, logits.length);
  if (size > logits.length / SAMPLE_STEP) return firstRanked(logits, size);
  const heap: number[] = [];
  /** Whether token a ranks below token b. NaN ranks below all numbers. */
  const below = (a: number, b: number) => {
    const [own, other] = [logits[a]!, logits[b]!];
    return own < other || (own === other && a > b) || (Number.isNaN(own) && !Number.isNaN(other));
  };
  const sink = (start: number) => {
    let at = start;
    for (;;) {
      let lowest = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && below(heap[child]!, heap[lowest]!)) lowest = child;
      }
      if (lowest === at) return;
      [heap[at], heap[lowest]] = [heap[lowest]!, heap[at]!];
      at = lowest;
    }
  };
  for (let i = 0; i < size; i++) heap.push(i * SAMPLE_STEP);
  for (let at = size >> 1; at >= 0; at--) sink(at);
  const consider = (id: number) => {
    if (!below(heap[0]!, id)) return;
    heap[0] = id;
    sink(0);
  };
  for (let id = size * SAMPLE_STEP; id < logits.length; id += SAMPLE_STEP) consider(id);
  for (let id = 0; id < logits.length; id++) if (id % SAMPLE_STEP !== 0) consider(id);
  return heap.sort((a, b) => (below(a, b) ? 1 : -1));
}

/** As `topIds`, for a large part of the vocabulary. */
function firstRanked(logits: Float32Array, size: number): number[] {
  const border = topKBorder(logits, size);
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (!border || isInside(logits[id]!, id, border)) ids.push(id);
  }
  return ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
}

export interface Truncation {
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Then keep the smallest set of most likely tokens with at least this probability mass; 1 keeps all. */
  readonly topP: number;
  /** Then keep tokens whose probability is at least this fraction of the largest one; 0 keeps all. */
  readonly minP: number;
}

/**
 * The last token that remains, or null if all do.
 * @param logits [V], already divided by the temperature
 */
export function truncate(logits: Float32Array, { topK, topP, minP }: Truncation): Border | null {
  let border = topK > 0 ? topKBorder(logits, topK) : null;
  if (topP < 1) border = narrower(nucleus(logits, topP, border), border);
  return minP > 0 ? narrower(minPBorder(logits, minP), border) : border;
}

function topKBorder(logits: Float32Array, k: number): Border | null {
  if (k >= logits.length) return null;
  return borderAt(logits, scratchWeights(logits.length).fill(1), k);
}

let scratch = new Float64Array(0);

/** An array for the weights of one call; it has those of an earlier one. */
function scratchWeights(size: number): Float64Array {
  if (scratch.length !== size) scratch = new Float64Array(size);
  return scratch;
}

/**
 * The last token of the nucleus: the smallest set of most likely tokens with at least `topP` of the probability mass. Null if no
 * logit is finite.
 * @param logits [V]
 * @param inside the tokens to choose from; null for the whole vocabulary
 */
export function nucleus(
  logits: Float32Array,
  topP: number,
  inside: Border | null = null,
): Border | null {
  const weights = scratchWeights(logits.length);
  const total = wholeWeights(weights, logits, inside);
  return total > 0 ? borderAt(logits, weights, topP * total) : null;
}

function minPBorder(logits: Float32Array, minP: number): Border {
  const [floor, max] = [Math.log(minP), maxOf(logits)];
  let logit = max;
  for (let id = 0; id < logits.length; id++) {
    const own = logits[id]!;
    if (own < logit && own - max >= floor) logit = own;
  }
  return { logit, id: logits.length };
}
