/** Truncation of the distribution before a draw: top-k, top-p (arXiv 1904.09751) and min-p (arXiv 2407.01082). */

/**
 * Token ids of the k largest logits, largest first; of equal logits the lower id first.
 * A heap of the k best so far is kept, so the vocabulary is scanned once and few tokens enter the heap.
 */
export function topIds(logits: Float32Array, k: number): number[] {
  const size = Math.min(k, logits.length);
  const heap: number[] = [];
  /** Whether token a ranks below token b. */
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
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Then keep the smallest set of most likely tokens with at least this probability mass; 1 keeps all. */
  readonly topP: number;
  /** Then keep tokens whose probability is at least this fraction of the largest one; 0 keeps all. */
  readonly minP: number;
}

/**
 * Token ids that remain, or null if all do. They are ordered by probability if top-k or top-p is in use, and by id with
 * min-p alone, which needs no ranking.
 * @param logits [V], already divided by the temperature
 */
export function truncate(logits: Float32Array, { topK, topP, minP }: Truncation): number[] | null {
  if (topK === 0 && topP === 1 && minP === 0) return null;
  const floor = minP > 0 ? Math.log(minP) : Number.NEGATIVE_INFINITY;
  let ids = topK > 0 ? topIds(logits, topK) : null;
  if (topP < 1) ids = nucleus(logits, ids, topP);
  const max = logits[ids?.[0] ?? topIds(logits, 1)[0]!]!;
  const remaining: number[] = [];
  if (ids) {
    for (const id of ids) if (logits[id]! - max >= floor) remaining.push(id);
    return remaining;
  }
  for (let id = 0; id < logits.length; id++) if (logits[id]! - max >= floor) remaining.push(id);
  return remaining;
}

/**
 * Token ids of the nucleus: the smallest set of most likely tokens with at least `topP` of the probability mass, most
 * likely first. Sorts only as many tokens as it needs.
 * @param logits [V]
 * @param ranked the tokens to choose from, most likely first; null for the whole vocabulary
 */
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
    const count = ids.length * 8;
    // A flat distribution needs most tokens: one native sort then takes a third of the time of a heap of so many.
    ids = count > HEAP_IDS_MAX ? rankedIds(logits) : topIds(logits, count);
  }
}

const HEAP_IDS_MAX = 4_096;
/** More than any vocabulary; a power of two, so that a key is exact in a double. */
const IDS = 2 ** 20;

/**
 * All token ids in the order of `topIds`. The numbers that are sorted consist of a logit's bits, in an order that agrees with
 * that of the logits, and of the token id.
 */
function rankedIds(logits: Float32Array): number[] {
  if (logits.length > IDS) return topIds(logits, logits.length);
  const count = logits.length;
  const values = new Float32Array(count);
  for (let id = 0; id < count; id++) {
    // Adding 0 makes -0 equal to 0; NaN comes last.
    const logit = logits[id]! + 0;
    values[id] = Number.isNaN(logit) ? Number.NEGATIVE_INFINITY : logit;
  }
  const bits = new Uint32Array(values.buffer);
  const keys = new Float64Array(count);
  for (let id = 0; id < count; id++) {
    const word = bits[id]!;
    const ordered = (word & 0x8000_0000) === 0 ? word + 0x8000_0000 : 0xffff_ffff - word;
    keys[id] = ordered * IDS + (IDS - 1 - id);
  }
  keys.sort();
  const ids: number[] = [];
  for (let rank = count - 1; rank >= 0; rank--) {
    const key = keys[rank]!;
    ids.push(IDS - 1 - (key - Math.floor(key / IDS) * IDS));
  }
  return ids;
}
