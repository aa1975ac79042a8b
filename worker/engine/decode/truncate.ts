/** Truncation of the distribution before a draw: top-k, top-p (arXiv 1904.09751) and min-p (arXiv 2407.01082). */
import { borderAt, isInside, narrower, type Border } from "./border.ts";
import { extremesOf, wholeWeights, type Extremes } from "./exp.ts";
import { doublesOf, kernels, place, reserve } from "./simd/vectors.ts";

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
  for (let i = 0; i < size; i++) heap.push(i * SAMPLE_STEP);
  for (let at = size >> 1; at >= 0; at--) sink(heap, logits, at);
  if (size > 0) considerAll(heap, logits);
  return heap.sort((a, b) => (ranksBelow(logits, a, b) ? 1 : -1));
}

/** Whether token a ranks below token b. NaN ranks below all numbers. */
function ranksBelow(logits: Float32Array, a: number, b: number): boolean {
  const [own, other] = [logits[a]!, logits[b]!];
  return own < other || (own === other && a > b) || (Number.isNaN(own) && !Number.isNaN(other));
}

/** Restores the heap below a place: the lowest token comes first. */
function sink(heap: number[], logits: Float32Array, start: number): void {
  let at = start;
  for (;;) {
    let lowest = at;
    for (const child of [2 * at + 1, 2 * at + 2]) {
      if (child < heap.length && ranksBelow(logits, heap[child]!, heap[lowest]!)) lowest = child;
    }
    if (lowest === at) return;
    [heap[at], heap[lowest]] = [heap[lowest]!, heap[at]!];
    at = lowest;
  }
}

/** Puts each token that ranks above the lowest one of the heap in its place. */
function considerAll(heap: number[], logits: Float32Array): void {
  const consider = (id: number) => {
    if (!ranksBelow(logits, heap[0]!, id)) return;
    heap[0] = id;
    sink(heap, logits, 0);
  };
  for (let id = heap.length * SAMPLE_STEP; id < logits.length; id += SAMPLE_STEP) consider(id);
  const [values, length] = [place(0, logits), reserve(logits.length)];
  const nextFrom = (from: number) => {
    if (from >= logits.length) return from;
    const lowest = heap[0]!;
    const logit = logits[lowest]!;
    // Every number ranks above NaN.
    if (Number.isNaN(logit)) {
      return kernels.findAtLeast(values, from, length, Number.NEGATIVE_INFINITY);
    }
    // Of the tokens with an equal logit, only those with a lower id rank above the lowest one.
    const find = from < lowest ? kernels.findAtLeast : kernels.findAbove;
    return find(values, from, length, logit);
  };
  for (let id = nextFrom(0); id < logits.length; id = nextFrom(id + 1)) {
    if (id % SAMPLE_STEP !== 0) consider(id);
  }
}

/** As `topIds`, for a large part of the vocabulary. */
function firstRanked(logits: Float32Array, size: number): number[] {
  const border = topKBorder(logits, extremesOf(logits), size);
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
export function truncate(logits: Float32Array, truncation: Truncation): Border | null {
  return truncatePlaced(logits, extremesOf(logits), truncation);
}

/** As `truncate`, if the logits are in the first vector of simd/ too. @param extremes see `extremesOf` */
export function truncatePlaced(
  logits: Float32Array,
  extremes: Extremes,
  { topK, topP, minP }: Truncation,
): Border | null {
  let border = topK > 0 ? topKBorder(logits, extremes, topK) : null;
  if (topP < 1) border = narrower(nucleusPlaced(logits, extremes, topP, border), border);
  return minP > 0 ? narrower(minPBorder(logits, extremes.max, minP), border) : border;
}

function topKBorder(logits: Float32Array, extremes: Extremes, k: number): Border | null {
  if (k >= logits.length) return null;
  doublesOf(reserve(logits.length)).fill(1).fill(0, logits.length);
  return borderAt(logits, extremes, k);
}

/**
 * The last token of the nucleus: the smallest set of most likely tokens with at least `topP` of the probability mass. Null if no
 * logit is finite.
 * @param logits [V]
 */
export function nucleus(logits: Float32Array, topP: number): Border | null {
  return nucleusPlaced(logits, extremesOf(logits), topP, null);
}

/** @param inside the tokens to choose from; null for the whole vocabulary */
function nucleusPlaced(
  logits: Float32Array,
  extremes: Extremes,
  topP: number,
  inside: Border | null,
): Border | null {
  const total = wholeWeights(reserve(logits.length), extremes.max, inside);
  return total > 0 ? borderAt(logits, extremes, topP * total) : null;
}

function minPBorder(logits: Float32Array, max: number, minP: number): Border {
  const floor = Math.log(minP);
  let logit = max;
  for (let id = 0; id < logits.length; id++) {
    const own = logits[id]!;
    if (own < logit && own - max >= floor) logit = own;
  }
  return { logit, id: logits.length };
}
