/** Top-k, top-p and min-p: which tokens may be drawn. */

/**
 * Token ids of the k largest logits, largest first, ties by lower id.
 * A heap of k holds the best so far, so a vocabulary is scanned once and hardly any token enters the heap.
 */
export function topIds(logits: Float32Array, k: number): number[] {
  const size = Math.min(k, logits.length);
  const heap: number[] = [];
  /** Whether a ranks below b. */
  const below = (a: number, b: number) => {
    const difference = logits[a]! - logits[b]!;
    return difference < 0 || (difference === 0 && a > b);
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
  for (let id = 0; id < size; id++) heap.push(id);
  for (let at = size >> 1; at >= 0; at--) sink(at);
  for (let id = size; id < logits.length; id++) {
    if (!below(heap[0]!, id)) continue;
    heap[0] = id;
    sink(0);
  }
  return heap.sort((a, b) => (below(a, b) ? 1 : -1));
}

export interface Truncation {
  /** Keep the k likeliest; 0 keeps all. */
  readonly topK: number;
  /** Then keep the smallest set of the likeliest with at least this mass; 1 keeps all. */
  readonly topP: number;
  /** Then keep those at least this fraction as likely as the likeliest; 0 keeps all. */
  readonly minP: number;
}

/**
 * Token ids that stay, likeliest first, or null if all do.
 * @param logits [V], already divided by the temperature
 */
export function truncate(logits: Float32Array, { topK, topP, minP }: Truncation): number[] | null {
  if (topK === 0 && topP === 1 && minP === 0) return null;
  const floor = minP > 0 ? Math.log(minP) : Number.NEGATIVE_INFINITY;
  let ids = topK > 0 ? topIds(logits, topK) : null;
  if (topP < 1) ids = nucleus(logits, ids, topP);
  const max = logits[ids?.[0] ?? topIds(logits, 1)[0]!]!;
  const kept: number[] = [];
  if (ids) {
    for (const id of ids) if (logits[id]! - max >= floor) kept.push(id);
    return kept;
  }
  for (let id = 0; id < logits.length; id++) if (logits[id]! - max >= floor) kept.push(id);
  return kept;
}

/** The smallest prefix of the ranking that holds `topP` of the mass; ranks only as far as it must. */
export function nucleus(logits: Float32Array, ranked: number[] | null, topP: number): number[] {
  let ids = ranked ?? topIds(logits, 64);
  const max = logits[ids[0]!]!;
  let total = 0;
  if (ranked) for (const id of ranked) total += Math.exp(logits[id]! - max);
  else for (let id = 0; id < logits.length; id++) total += Math.exp(logits[id]! - max);
  for (;;) {
    let mass = 0;
    for (let i = 0; i < ids.length; i++) {
      mass += Math.exp(logits[ids[i]!]! - max);
      if (mass >= topP * total) return ids.slice(0, i + 1);
    }
    if (ranked || ids.length === logits.length) return ids;
    ids = topIds(logits, ids.length * 8);
  }
}
