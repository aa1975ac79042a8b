/**
 * Which tokens surely remain, and which are surely cut, when top-k, top-p and min-p truncate a distribution of which only a
 * part is known. Notation of certificate.ts, with z and u divided by the temperature. W is the sum of exp(z) over the seen
 * tokens (with top-k: over the k largest of them), U the most that all unseen tokens can add to it, B(x) the mass of the seen
 * tokens before x in the order of z, and A(x) the most that unseen tokens before x can add to that.
 *
 * - top-k keeps x if fewer than k tokens are before it: surely if the seen tokens before it and the unseen ones with
 *   u >= z(x) are fewer than k, surely not if k seen ones are before it.
 * - top-p keeps x if the mass before it is less than p of the total. The total is W + a + b with the unseen masses a before
 *   x and b after it. B + a < p * (W + a + b) holds surely if B + A < p * (W + A), because a has the larger factor on the
 *   left; it surely fails if B >= p * (W + U). After top-k an unseen token may displace seen ones, so the total is only
 *   known to be at least W and at most W + U: kept surely if B + A < p * W.
 * - min-p keeps x if z(x) >= M + log(min_p), where M is the largest z: between that of the seen tokens and the largest u.
 */
import type { PartialDraw } from "./certificate.ts";
import { topIds } from "./truncate.ts";
import { unseenWeightMax } from "./unseen-weight.ts";

export class Survival {
  /** Seen tokens that are not masked, the most likely first. */
  readonly seenIds: readonly number[];
  readonly #draw: PartialDraw;
  readonly #rank = new Map<number, number>();
  /** Logit of the likeliest seen token. */
  readonly #max: number;
  /** [V] see `#unseen`. */
  #scaled: Float32Array | null = null;
  /** Whether the repetition penalty divides no unseen token's logit. */
  readonly #isNegative: boolean;
  /** [seen + 1] mass of the first i seen tokens. */
  readonly #before: Float64Array;
  /** The k-th largest z of a seen token; -Infinity without top-k, or if fewer tokens are seen. */
  readonly #kth: number;
  readonly #seenWeight: number;
  readonly #unseenWeight: number;
  readonly #floor: number;
  readonly #largestUnseen: number;

  constructor(draw: PartialDraw) {
    const { upper, seenIds, isDivided, truncation, penalty } = draw;
    const { topK, topP, minP } = truncation;
    this.#draw = draw;
    const seen = [...seenIds].filter((id) => upper[id]! > Number.NEGATIVE_INFINITY);
    seen.sort((a, b) => upper[b]! - upper[a]! || a - b);
    this.seenIds = seen;
    for (const [rank, id] of seen.entries()) this.#rank.set(id, rank);
    this.#max = upper[seen[0]!]!;
    this.#isNegative =
      penalty === 1 || !upper.some((u, id) => u > Number.NEGATIVE_INFINITY && isDivided(id));
    this.#before = new Float64Array(seen.length + 1);
    for (const [i, id] of seen.entries()) {
      this.#before[i + 1] = this.#before[i]! + Math.exp(this.#z(id));
    }
    this.#kth =
      topK > 0 && seen.length >= topK ? this.#z(seen[topK - 1]!) : Number.NEGATIVE_INFINITY;
    this.#seenWeight = this.#before[topK > 0 ? Math.min(topK, seen.length) : seen.length]!;
    this.#unseenWeight = topP < 1 ? this.#weightFrom(Number.NEGATIVE_INFINITY) : 0;
    this.#floor = minP > 0 ? Math.log(minP) : Number.NEGATIVE_INFINITY;
    this.#largestUnseen = minP > 0 ? this.#z(largestUnseen(draw)) : Number.NEGATIVE_INFINITY;
  }

  /** Whether truncation cuts an unseen token, however likely the base finds it. */
  isUnseenCut(id: number): boolean {
    const { topK, topP } = this.#draw.truncation;
    const u = this.#z(id);
    if (topK > 0 && u < this.#kth) return true;
    if (u < this.#floor) return true;
    if (topP === 1) return false;
    return this.#before[this.#seenAbove(u)]! >= topP * (this.#seenWeight + this.#unseenWeight);
  }

  surelyRemains(id: number): boolean {
    const { topK, topP } = this.#draw.truncation;
    const z = this.#z(id);
    const rank = this.#rank.get(id)!;
    if (topK > 0 && rank + this.#unseenFrom(this.#draw.upper[id]!) >= topK) return false;
    if (z < Math.max(0, this.#largestUnseen) + this.#floor) return false;
    if (topP === 1) return true;
    const [before, added] = [this.#before[rank]!, this.#weightFrom(z)];
    return before + added < topP * (this.#seenWeight + (topK > 0 ? 0 : added));
  }

  surelyCut(id: number): boolean {
    const { topK, topP } = this.#draw.truncation;
    const rank = this.#rank.get(id)!;
    if (topK > 0 && rank >= topK) return true;
    if (this.#z(id) < this.#floor) return true;
    return topP < 1 && this.#before[rank]! >= topP * (this.#seenWeight + this.#unseenWeight);
  }

  /** Unseen tokens, those that can have the most probability first. */
  unseenByWeight(count: number): number[] {
    return topIds(this.#unseen, count).filter((id) => this.#unseen[id]! > Number.NEGATIVE_INFINITY);
  }

  /** [V] u divided by the temperature and relative to the largest z of a seen token; -Infinity if masked or seen. */
  get #unseen(): Float32Array {
    const { upper, temperature } = this.#draw;
    if (!this.#scaled) {
      this.#scaled = scaled(upper, this.#max, temperature);
      for (const id of this.seenIds) this.#scaled[id] = Number.NEGATIVE_INFINITY;
    }
    return this.#scaled;
  }

  /** Unseen tokens with this bound or a larger one. */
  #unseenFrom(least: number): number {
    const { upper } = this.#draw;
    let count = 0;
    for (let id = 0; id < upper.length; id++) if (upper[id]! >= least) count++;
    for (const id of this.seenIds) if (upper[id]! >= least) count--;
    return count;
  }

  #z(id: number): number {
    return (this.#draw.upper[id]! - this.#max) / this.#draw.temperature;
  }

  /** The most that the unseen tokens with this z or a larger one can weigh. */
  #weightFrom(z: number): number {
    return unseenWeightMax(this.#unseen, this.#draw, this.#isNegative, z);
  }

  /** Seen tokens whose z is larger than this. */
  #seenAbove(z: number): number {
    let [low, high] = [0, this.seenIds.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#z(this.seenIds[middle]!) > z) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function scaled(upper: Float32Array, max: number, temperature: number): Float32Array {
  const out = new Float32Array(upper.length);
  for (let id = 0; id < upper.length; id++) out[id] = (upper[id]! - max) / temperature;
  return out;
}

/** The unseen token with the largest bound; a seen one if all unseen ones are masked. */
function largestUnseen({ upper, isSeen, token }: PartialDraw): number {
  let [largest, max] = [token, Number.NEGATIVE_INFINITY];
  for (let id = 0; id < upper.length; id++) {
    if (upper[id]! > max && !isSeen(id)) [largest, max] = [id, upper[id]!];
  }
  return largest;
}
