/**
 * Proves that a token which was drawn from a part of the base's distribution is the one that the whole distribution gives, or
 * names the tokens that have to be known for it. Used with a base that tells only its most likely tokens (../remote).
 *
 * Known for the whole vocabulary: shift, penalties, bias, constraint and noise. Of the base: the log-probabilities of the
 * seen tokens. Every stage before the draw is non-decreasing in a token's own base log-probability (a sum; the repetition
 * penalty multiplies by a positive number on each side of 0; a mask), so with an unseen token's base log-probability at its
 * largest, its logit z is at its largest too: the upper bound u >= z. A masked token has u = -Infinity and is out.
 *
 * Let w be the drawn token and s(x) = z(x) + noise(x) the score (greedy: without noise).
 * - Without truncation w is right if s(w) >= s(x) for every seen x (the draw has made sure of it) and s(w) > u(y) + noise(y)
 *   for every unseen y.
 * - With truncation w is right if it surely remains, every seen x with a larger score is surely cut, and so is every unseen
 *   y with u(y) + noise(y) >= s(w). `Survival` has the bounds.
 */
import { Survival } from "./survival.ts";
import type { Truncation } from "./truncate.ts";

/** Logits and log-probabilities are rounded: scores closer than this are not told apart, and the token is asked for. */
const SLACK = 2e-5;

/** A draw from partly known logits. */
export interface PartialDraw {
  readonly token: number;
  /** [V] after constraint, penalties and bias, before the temperature: exact if seen, otherwise the upper bound. */
  readonly upper: Float32Array;
  readonly isSeen: (id: number) => boolean;
  /**
   * How many unseen tokens could be at their upper bounds at once: the mass of the unseen tokens, divided by the largest
   * probability of one.
   */
  readonly unseenAtBound: number;
  /** The repetition penalty; 1: off. It changes how a token's weight grows with its probability. */
  readonly penalty: number;
  /** Whether the penalty has divided a token's upper bound, which was then above 0, before the bias. */
  readonly isDivided: (id: number) => boolean;
  /** 0 is greedy; then truncation and noise are not used. */
  readonly temperature: number;
  readonly truncation: Truncation;
  readonly noise: (id: number) => number;
}

export interface Certificate {
  /** Whether the token is proven. */
  readonly certified: boolean;
  /** Otherwise: unseen tokens that could change the draw, the likeliest to do so first. Empty only if `certified`. */
  readonly ask: readonly number[];
}

const CERTIFIED: Certificate = { certified: true, ask: [] };

export function certify(draw: PartialDraw): Certificate {
  const { token, upper, isSeen, temperature, truncation, noise } = draw;
  const isGreedy = temperature === 0;
  const scale = isGreedy ? 1 : 1 / temperature;
  const slack = SLACK * scale;
  const scoreOf = (id: number) => upper[id]! * scale + (isGreedy ? 0 : noise(id));
  // An unseen token may win with the share of the rest that it was given, but its own value must be known.
  const winning = isSeen(token) ? scoreOf(token) : bestSeenScore(draw, scoreOf);
  const contenders = contendersOf(draw, scoreOf, winning - slack);
  if (!contenders) return CERTIFIED;
  const byScore = () => contenders.toSorted((a, b) => scoreOf(b) - scoreOf(a));
  const { topK, topP, minP } = truncation;
  if (isGreedy || (topK === 0 && topP === 1 && minP === 0)) {
    return contenders.length === 0 ? CERTIFIED : { certified: false, ask: byScore() };
  }
  if (!isSeen(token)) return { certified: false, ask: withToken(byScore(), token) };
  const survival = new Survival(draw);
  const open = contenders.filter((id) => !survival.isUnseenCut(id));
  if (open.length > 0) {
    return { certified: false, ask: open.toSorted((a, b) => scoreOf(b) - scoreOf(a)) };
  }
  const undecided = survival.seenIds.filter(
    (id) =>
      (id === token && !survival.surelyRemains(id)) ||
      (id !== token && scoreOf(id) >= winning && !survival.surelyCut(id)),
  );
  if (undecided.length === 0) return CERTIFIED;
  return { certified: false, ask: survival.unseenByWeight() };
}

/** Unseen tokens with this score or a larger one. Null if only one token is allowed, of which nothing must be known. */
function contendersOf(
  { upper, isSeen }: PartialDraw,
  scoreOf: (id: number) => number,
  least: number,
): number[] | null {
  const contenders: number[] = [];
  let allowed = 0;
  for (let id = 0; id < upper.length; id++) {
    if (upper[id] === Number.NEGATIVE_INFINITY) continue;
    allowed++;
    if (!isSeen(id) && scoreOf(id) >= least) contenders.push(id);
  }
  return allowed === 1 ? null : contenders;
}

function bestSeenScore({ upper, isSeen }: PartialDraw, scoreOf: (id: number) => number): number {
  let best = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < upper.length; id++) if (isSeen(id)) best = Math.max(best, scoreOf(id));
  return best;
}

const withToken = (ids: readonly number[], token: number) => [
  token,
  ...ids.filter((id) => id !== token),
];
