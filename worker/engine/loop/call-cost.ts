/**
 * The time of a call of a remote base, or of a run of a model, as a constant part and a part for each token that is computed. Drafters
 * make most calls alike, and a line through the latest ones (cost-line.ts) would soon forget the part for a token, or take it for
 * the constant one. Here each call moves both parts towards its time (normalised least mean squares): that for a token by little, unless
 * the call has many.
 *
 * A single call may take many times as long as the others: the server fills a cache with a prompt, or does something else. So no
 * call counts as more than a multiple of what is expected; a server that has become slower is followed within some calls.
 */

/** A token's part of a call without tokens, before calls of different sizes were seen. */
const TOKEN_SHARE = 0.03;
/** Each call moves the part for a token towards TOKEN_SHARE by this fraction. So drafts are tried again after a slow time. */
const FORGETTING = 0.003;
/** A measurement counts as at most so many times what is expected. */
const OUTLIER = 2.5;
/** For this bound, the expected time is at least this. */
const EXPECTED_MIN_MS = 5;
/** How easily the part for a token moves, beside the constant one. */
const TOKEN_WEIGHT = 0.15;
/** The larger, the less a call counts beside those before it: about a fifth with one token. */
const INERTIA = 4;

export class CallCost {
  #fixedMs = 0;
  #tokenMs = 0;

  /** Milliseconds of a call without tokens. */
  get fixedMs(): number {
    return this.#fixedMs;
  }

  /** Milliseconds of each token. */
  get tokenMs(): number {
    return this.#tokenMs;
  }

  /** Milliseconds of a call with so many tokens. */
  expectedMs(tokens: number): number {
    return this.#fixedMs + this.#tokenMs * tokens;
  }

  /** A value that is no number would stay in both parts, so it is not counted. */
  record(ms: number, tokens: number): void {
    if (!isAmount(ms) || !isAmount(tokens)) return;
    const expectedMs = this.expectedMs(tokens);
    if (expectedMs === 0) {
      this.#fixedMs = ms / (1 + TOKEN_SHARE * tokens);
      this.#tokenMs = TOKEN_SHARE * this.#fixedMs;
      return;
    }
    const error = clipped(ms, expectedMs) - expectedMs;
    const step = error / (1 + TOKEN_WEIGHT * tokens ** 2 + INERTIA);
    this.#fixedMs = Math.max(0, this.#fixedMs + step);
    this.#tokenMs = Math.max(0, this.#tokenMs + TOKEN_WEIGHT * tokens * step);
    this.#tokenMs += FORGETTING * (TOKEN_SHARE * this.#fixedMs - this.#tokenMs);
  }
}

/** Whether a time or a count is one: finite and not negative. */
export const isAmount = (value: number) => Number.isFinite(value) && value >= 0;

/** A measurement, as far as it can be believed. */
export const clipped = (ms: number, expectedMs: number) =>
  Math.min(ms, OUTLIER * Math.max(EXPECTED_MIN_MS, expectedMs));
