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
 *
 * Rounding. A told log-probability is a float32, and each stage rounds to float32: at most eight roundings (told value,
 * difference of the pair, its product with alpha, sum, two penalties, bias, division by the temperature), each by at most
 * 2^-24 of the largest number M on the way. So a score is off by 2^-21 M, and an unseen token counts as a contender unless it
 * loses by 2^-20 M. For a contender that close M is bounded by |z(w)|, the difference of two noises times the temperature, the
 * bound of unseen log-probabilities and the largest bias. Two seen tokens that are closer are a tie, as in a run with local
 * models: no further question to the base would decide it.
 */
import { GUMBEL_MAX, NOISE_RANGE } from "./noise.ts";
import { Survival } from "./survival.ts";
import { topIds, type Truncation } from "./truncate.ts";

/** Two scores with eight roundings each. */
const ROUNDING = 2 ** -20;
/** More unseen tokens are never asked for at once. */
const ASKED_MAX = 512;

/** A draw from partly known logits. */
export interface PartialDraw {
  readonly token: number;
  /** [V] after constraint, penalties and bias, before the temperature: exact if seen, otherwise the upper bound. */
  readonly upper: Float32Array;
  readonly isSeen: (id: number) => boolean;
  readonly seenIds: Iterable<number>;
  /** No unseen token has a larger log-probability under the base. */
  readonly unseenMax: number;
  /** An unseen token's log-probability is at least so many nats below `unseenMax`; absent: 0 for all. */
  readonly below?: (id: number) => number;
  /**
   * How many unseen tokens could be at their upper bounds at once: the mass of the unseen tokens, divided by the largest
   * probability of one.
   */
  readonly unseenAtBound: number;
  /** The largest logit bias. */
  readonly biasMax: number;
  /** The repetition penalty; 1: off. It changes how a token's weight grows with its probability. */
  readonly penalty: number;
  /** Whether the penalty has divided a token's upper bound, which was then above 0, before the bias. */
  readonly isDivided: (id: number) => boolean;
  /** 0 is greedy; then truncation and noise are not used. */
  readonly temperature: number;
  readonly truncation: Truncation;
  readonly noise: (id: number) => number;
  /** The same, or -Infinity if the noise is certainly at most `floor`. */
  readonly noiseAbove: (id: number, floor: number) => number;
}

export interface Certificate {
  /** Whether the token is proven. */
  readonly certified: boolean;
  /** Otherwise: unseen tokens that could change the draw, the likeliest to do so first. Empty only if `certified`. */
  readonly ask: readonly number[];
}

const CERTIFIED: Certificate = { certified: true, ask: [] };

export function certify(draw: PartialDraw): Certificate {
  const { token, upper, isSeen, seenIds, temperature, truncation, noise } = draw;
  const isGreedy = temperature === 0;
  const scale = isGreedy ? 1 : 1 / temperature;
  const scoreOf = (id: number) => upper[id]! * scale + (isGreedy ? 0 : noise(id));
  // An unseen token may win with the share of the rest that it was given, but its own value must be known.
  let winning = Number.NEGATIVE_INFINITY;
  if (isSeen(token)) winning = scoreOf(token);
  else for (const id of seenIds) winning = Math.max(winning, scoreOf(id));
  const least = winning - roundingOf(draw) * scale;
  const atBound = contendersOf(draw, scale, least);
  if (!atBound) return CERTIFIED;
  const contenders = atBound.filter((id) => scoreOf(id) - knownGap(draw, id) * scale >= least);
  const { topK, topP, minP } = truncation;
  if (isGreedy || (topK === 0 && topP === 1 && minP === 0)) {
    return contenders.length === 0 ? CERTIFIED : asking(contenders, scoreOf);
  }
  if (!isSeen(token)) return asking([...new Set([token, ...atBound])], scoreOf);
  const survival = new Survival(draw);
  const open = contenders.filter((id) => !survival.isUnseenCut(id));
  if (open.length > 0) return asking(open, scoreOf);
  const undecided = survival.seenIds.filter(
    (id) =>
      (id === token && !survival.surelyRemains(id)) ||
      (id !== token && scoreOf(id) >= winning && !survival.surelyCut(id)),
  );
  if (undecided.length === 0) return CERTIFIED;
  return { certified: false, ask: survival.unseenByWeight(ASKED_MAX) };
}

/**
 * An unseen token's logit is at least so far below its upper bound. A repetition penalty multiplies or divides what is below the
 * bound, so the smaller of both counts.
 */
function knownGap({ below, penalty }: PartialDraw, id: number): number {
  return below ? below(id) * Math.min(penalty, 1 / penalty) : 0;
}

/** How far two scores, in nats of the logits, may be off together by rounding. */
function roundingOf({ token, upper, unseenMax, biasMax, temperature }: PartialDraw): number {
  const own = Number.isFinite(upper[token]) ? Math.abs(upper[token]!) : 0;
  const told = Number.isFinite(unseenMax) ? Math.abs(unseenMax) : 0;
  return ROUNDING * (own + told + biasMax + temperature * NOISE_RANGE);
}

/**
 * Unseen tokens with this score or a larger one. Null if only one token is allowed, of which nothing must be known.
 * @param scale 1 / temperature
 */
function contendersOf(
  { upper, isSeen, temperature, noiseAbove }: PartialDraw,
  scale: number,
  least: number,
): number[] | null {
  const contenders: number[] = [];
  const isGreedy = temperature === 0;
  let allowed = 0;
  for (let id = 0; id < upper.length; id++) {
    const logit = upper[id]!;
    if (logit === Number.NEGATIVE_INFINITY) continue;
    allowed++;
    const needed = least - logit * scale;
    // For most tokens the bound of the noise decides, or half of its random bits: no logarithm is taken.
    if (isGreedy ? needed > 0 : needed > GUMBEL_MAX || noiseAbove(id, needed) < needed) continue;
    if (!isSeen(id)) contenders.push(id);
  }
  return allowed === 1 ? null : contenders;
}

/** Asks for unseen tokens in the order of their scores. */
function asking(ids: readonly number[], scoreOf: (id: number) => number): Certificate {
  const scores = Float32Array.from(ids, scoreOf);
  return { certified: false, ask: topIds(scores, ASKED_MAX).map((i) => ids[i]!) };
}
