/**
 * Decides how many tokens to draft for speculative decoding. Drafts only decide how many tokens one run verifies, so this file
 * affects the speed and never the output.
 */

/** Most tokens that one verification can produce. */
export const DRAFT_TOKENS_MAX = 8;

/** The facts that decide how much a sequence gains by drafting. */
export interface DraftChance {
  /** Fraction of drafted tokens that are accepted, 0 to 1. */
  readonly acceptance: number;
  /** Most tokens that the sequence can take in one run: one more than the drafts that it can have. */
  readonly tokensMax: number;
}

/** Tokens that a run with up to `width` tokens of a sequence gives on average: the first rejection ends it (arXiv 2211.17192). */
function expectedTokens({ acceptance, tokensMax }: DraftChance, width: number): number {
  let expected = 0;
  for (let i = 0; i < Math.min(width, tokensMax); i++) expected += acceptance ** i;
  return expected;
}

/**
 * The number of tokens of each sequence, 1 to DRAFT_TOKENS_MAX, that gives the most tokens per millisecond. It is one number for all:
 * a run computes as many tokens of each sequence as of the one with the most, so fewer drafts of another one would save nothing.
 * @param costMs time of drafting and verifying so many tokens of each sequence
 */
export function draftWidth(
  chances: readonly DraftChance[],
  costMs: (width: number) => number,
): { readonly width: number; readonly speed: number } {
  let best = { width: 1, speed: 0 };
  const widthMax = Math.min(
    DRAFT_TOKENS_MAX,
    Math.max(...chances.map((chance) => chance.tokensMax)),
  );
  for (let width = 1; width <= widthMax; width++) {
    const tokens = chances.reduce((sum, chance) => sum + expectedTokens(chance, width), 0);
    const speed = tokens / costMs(width);
    if (speed > best.speed) best = { width, speed };
  }
  return best;
}

/** Smallest weight of a new observation. With it the mean covers about the last 20 observations. */
const WEIGHT_MIN = 0.05;

/** A mean in which old observations count less and less. */
export class RunningMean {
  #mean: number;
  #observationCount: number;

  /** @param initialCount how many observations the initial value counts as; with 0 the first observation replaces it */
  constructor(initial: number, initialCount: number) {
    this.#mean = initial;
    this.#observationCount = initialCount;
  }

  get value(): number {
    return this.#mean;
  }

  observe(value: number): void {
    this.#observationCount++;
    this.#mean += Math.max(WEIGHT_MIN, 1 / this.#observationCount) * (value - this.#mean);
  }
}
