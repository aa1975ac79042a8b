/**
 * How far ahead to draft, and what from. Drafts only decide how many tokens one run verifies: which tokens come out is
 * decided by the steered distribution alone, so everything in here is about speed.
 */

/** Where drafts come from: the expert's own text, or the text's own repetitions. */
export type Drafter = "expert" | "lookup";

/** Drafted tokens that were verified, and how many of them were right. */
export type DraftCounts = Readonly<Record<Drafter, { drafted: number; accepted: number }>>;

export function noDrafts(): DraftCounts {
  return { expert: { drafted: 0, accepted: 0 }, lookup: { drafted: 0, accepted: 0 } };
}

/** Of both drafters together. */
export function allDrafts({ expert, lookup }: DraftCounts): { drafted: number; accepted: number } {
  return {
    drafted: expert.drafted + lookup.drafted,
    accepted: expert.accepted + lookup.accepted,
  };
}

/** Tokens that one verification may emit. */
export const DRAFT_TOKENS_MAX = 8;
/** Verifying one more token costs this fraction of a run (98M fp32, two cores: 1.15 to 1.5 times for 8). */
export const EXTRA_TOKEN_COST = 0.06;

/** What the choice depends on; measured while running. */
export interface DraftCosts {
  /** Fraction of drafted tokens that are accepted, 0 to 1. */
  readonly acceptance: number;
  /** Time of one drafted token; 0 if drafts are free. */
  readonly draftMs: number;
  /** Time of one verifying run with one token, over the models that verify. */
  readonly verifyMs: number;
}

/**
 * Count of tokens to verify at once, 1 to DRAFT_TOKENS_MAX, that makes the most tokens per millisecond.
 * k tokens give (1 - a^k) / (1 - a) on average, as the first rejection ends them.
 */
export function draftLength({ acceptance, draftMs, verifyMs }: DraftCosts): number {
  let best = 1;
  let bestSpeed = 0;
  for (let k = 1, expected = 0; k <= DRAFT_TOKENS_MAX; k++) {
    expected += acceptance ** (k - 1);
    const speed = expected / (k * draftMs + verifyMs * (1 + EXTRA_TOKEN_COST * (k - 1)));
    if (speed > bestSpeed) [best, bestSpeed] = [k, speed];
  }
  return best;
}

const LOOKUP_TOKENS = 3;

/**
 * Prompt lookup: what followed the last time that the text's end stood somewhere before, up to `count` tokens.
 * @returns [] if it never did
 */
export function lookUp(history: readonly number[], count: number): number[] {
  const end = history.length - LOOKUP_TOKENS;
  for (let start = end - 1; start >= 0; start--) {
    let same = 0;
    while (same < LOOKUP_TOKENS && history[start + same] === history[end + same]) same++;
    if (same === LOOKUP_TOKENS) {
      return history.slice(start + LOOKUP_TOKENS, start + LOOKUP_TOKENS + count);
    }
  }
  return [];
}

/** The least weight of an observation: the last twenty or so count. */
const WEIGHT_MIN = 0.05;

/** A mean that forgets. */
export class RunningMean {
  #mean: number;
  #observations: number;

  /** @param belief observations that the initial value stands for; 0 if the first real one replaces it */
  constructor(initial: number, belief: number) {
    this.#mean = initial;
    this.#observations = belief;
  }

  get value(): number {
    return this.#mean;
  }

  observe(value: number): void {
    this.#observations++;
    this.#mean += Math.max(WEIGHT_MIN, 1 / this.#observations) * (value - this.#mean);
  }
}
