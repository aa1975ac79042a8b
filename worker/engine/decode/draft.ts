/**
 * Decides how many tokens to draft for speculative decoding, and drafts tokens by prompt lookup. Drafts only decide how many
 * tokens one run verifies, so this file affects the speed and never the output.
 */

/** Most tokens that one verification can produce. */
export const DRAFT_TOKENS_MAX = 8;
/**
 * Verifying one more token costs this fraction of a run. Measured: 8 tokens cost 1.15 to 1.5 times as much as one (98M
 * parameters, fp32, two cores).
 */
export const EXTRA_TOKEN_COST = 0.06;

/** Costs of drafting and verifying, measured while the sequence runs. */
export interface DraftCosts {
  /** Fraction of drafted tokens that are accepted, 0 to 1. */
  readonly acceptance: number;
  /** Time of one drafted token, in ms; 0 if drafts are free. */
  readonly draftMs: number;
  /** Time to verify one token, in ms: the sum over the models that verify. */
  readonly verifyMs: number;
  /** Time of a step without drafts, in ms. It is less than the sum of the models where some share a run (adapters). */
  readonly stepMs: number;
}

/**
 * The count of tokens to verify at once, 1 to DRAFT_TOKENS_MAX, that gives the most tokens per millisecond. Verifying k
 * tokens gives (1 - a^k) / (1 - a) tokens on average, because the first rejection ends the run (arXiv 2211.17192).
 */
export function draftLength({ acceptance, draftMs, verifyMs, stepMs }: DraftCosts): number {
  let best = 1;
  let bestSpeed = 0;
  for (let k = 1, expected = 0; k <= DRAFT_TOKENS_MAX; k++) {
    expected += acceptance ** (k - 1);
    const draftedMs = k * draftMs + verifyMs * (1 + EXTRA_TOKEN_COST * (k - 1));
    const speed = expected / (k === 1 ? stepMs : draftedMs);
    if (speed > bestSpeed) [best, bestSpeed] = [k, speed];
  }
  return best;
}

/** Tokens of the n-gram that prompt lookup searches for. */
const LOOKUP_TOKENS = 3;

/**
 * Prompt lookup decoding: finds the latest earlier occurrence of the text's last three tokens.
 * @returns up to `count` tokens that followed it; [] if there is none
 */
export function promptLookup(history: readonly number[], count: number): number[] {
  const end = history.length - LOOKUP_TOKENS;
  for (let start = end - 1; start >= 0; start--) {
    let matches = 0;
    while (matches < LOOKUP_TOKENS && history[start + matches] === history[end + matches])
      matches++;
    if (matches === LOOKUP_TOKENS) {
      return history.slice(start + LOOKUP_TOKENS, start + LOOKUP_TOKENS + count);
    }
  }
  return [];
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
