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
import { unseenWeightMax } from "./unseen-weight.ts";

export class Survival {
  /** Seen tokens that are not masked, the most likely first. */
  readonly seenIds: readonly number[];
  readonly #draw: PartialDraw;
  readonly #rank = new Map<number, number>();
  /** z, or u, divided by the temperature and relative to the largest z of a seen token. */
  readonly #z: (id: number) => number;
  readonly #unseen: readonly number[];
  /** [seen + 1] mass of the first i seen tokens. */
  readonly #before: Float64Array;
  /** The k-th largest z of a seen token; -Infinity without top-k, or if fewer tokens are seen. */
  readonly #kth: number;
  readonly #seenWeight: number;
  readonly #unseenWeight: number;
  readonly #floor: number;
  readonly #largestUnseen: number;

  constructor(draw: PartialDraw) {
    const { upper, isSeen, temperature, truncation } = draw;
    const { topK, topP, minP } = truncation;
    this.#draw = draw;
    const [seen, unseen] = [[] as number[], [] as number[]];
    for (let id = 0; id < upper.length; id++) {
      if (upper[id]! > Number.NEGATIVE_INFINITY) (isSeen(id) ? seen : unseen).push(id);
    }
    seen.sort((a, b) => upper[b]! - upper[a]! || a - b);
    this.seenIds = seen;
    this.#unseen = unseen;
    for (const [rank, id] of seen.entries()) this.#rank.set(id, rank);
    const max = upper[seen[0]!]!;
    this.#z = (id) => (upper[id]! - max) / temperature;
    this.#before = new Float64Array(seen.length + 1);
    for (const [i, id] of seen.entries()) {
      this.#before[i + 1] = this.#before[i]! + Math.exp(this.#z(id));
    }
    this.#kth =
      topK > 0 && seen.length >= topK ? this.#z(seen[topK - 1]!) : Number.NEGATIVE_INFINITY;
    this.#seenWeight = this.#before[topK > 0 ? Math.min(topK, seen.length) : seen.length]!;
    this.#unseenWeight = topP < 1 ? this.#weightOf(unseen) : 0;
    this.#floor = minP > 0 ? Math.log(minP) : Number.NEGATIVE_INFINITY;
    let largest = Number.NEGATIVE_INFINITY;
    for (const id of unseen) largest = Math.max(largest, this.#z(id));
    this.#largestUnseen = largest;
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
    const above = this.#unseen.filter((other) => this.#z(other) >= z);
    if (topK > 0 && rank + above.length >= topK) return false;
    if (z < Math.max(0, this.#largestUnseen) + this.#floor) return false;
    if (topP === 1) return true;
    const [before, added] = [this.#before[rank]!, this.#weightOf(above)];
    return before + added < topP * (this.#seenWeight + (topK > 0 ? 0 : added));
  }

  surelyCut(id: number): boolean {
    const { topK, topP } = this.#draw.truncation;
    const rank = this.#rank.get(id)!;
    if (topK > 0 && rank >= topK) return true;
    if (this.#z(id) < this.#floor) return true;
    return topP < 1 && this.#before[rank]! >= topP * (this.#seenWeight + this.#unseenWeight);
  }

  /** The unseen tokens, those that can have the most probability first. */
  unseenByWeight(): number[] {
    return this.#unseen.toSorted((a, b) => this.#z(b) - this.#z(a));
  }

  #weightOf(ids: readonly number[]): number {
    const logs = Float64Array.from(ids, (id) => this.#z(id));
    const isNegative = !ids.some(this.#draw.isDivided);
    return unseenWeightMax(logs, this.#draw, isNegative);
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
