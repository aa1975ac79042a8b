/**
 * The time of a call as a constant part and a part for each token that the server computes. Drafters make most calls alike, and a line
 * through the latest ones (cost-line.ts) would soon forget the part for a token, or take it for the constant one. So this is a Kalman
 * filter: each call changes the two parts by how uncertain they are, and calls of one size leave the part for a token as it was.
 *
 * A single call may take many times as long as the others: the server fills a cache with a prompt, or does something else. So no
 * call counts as more than a multiple of what is expected; a server that has become slower is followed within some calls.
 */

/** A token's part of a call without tokens, before calls of different sizes were seen. */
const TOKEN_SHARE = 0.1;
/** With each call the part for a token goes back to that share by so much, so that drafts are tried again. */
const FORGETTING = 0.01;
/** A measurement counts as at most so many times what is expected. */
const OUTLIER = 2.5;
/** What is expected is at least this for it. */
const EXPECTED_MIN_MS = 5;
/** Standard deviations: of a call's time, as a share of it; of the change of each part from call to call. */
const NOISE = 0.25;
const DRIFT = { fixed: 0.05, token: 0.03 };

export class CallCost {
  #fixedMs = 1;
  #tokenMs = TOKEN_SHARE;
  /** Variances and covariance of the two parts; null before the first call. */
  #variance: { fixed: number; both: number; token: number } | null = null;

  /** Milliseconds of a call without tokens. */
  get fixedMs(): number {
    return this.#fixedMs;
  }

  /** Milliseconds of each token. */
  get tokenMs(): number {
    return this.#tokenMs;
  }

  record(ms: number, tokens: number): void {
    if (!this.#variance) {
      this.#fixedMs = ms / (1 + TOKEN_SHARE * tokens);
      this.#tokenMs = TOKEN_SHARE * this.#fixedMs;
    }
    const { fixed, both, token } = this.#drifted();
    const expectedMs = this.#fixedMs + this.#tokenMs * tokens;
    const error = clipped(ms, expectedMs) - expectedMs;
    // An unlikely time says less.
    const noise = (NOISE * Math.max(EXPECTED_MIN_MS, expectedMs)) ** 2 + (error / 4) ** 2;
    const [fixedGain, tokenGain] = [fixed + both * tokens, both + token * tokens];
    const scale = 1 / (fixedGain + tokenGain * tokens + noise);
    this.#fixedMs = Math.max(0, this.#fixedMs + fixedGain * scale * error);
    this.#tokenMs = Math.max(0, this.#tokenMs + tokenGain * scale * error);
    this.#tokenMs += FORGETTING * (TOKEN_SHARE * this.#fixedMs - this.#tokenMs);
    this.#variance = {
      fixed: fixed - fixedGain * scale * fixedGain,
      both: both - fixedGain * scale * tokenGain,
      token: token - tokenGain * scale * tokenGain,
    };
  }

  /** The variances before the next call. */
  #drifted() {
    const { fixed, both, token } = this.#variance ?? {
      fixed: this.#fixedMs ** 2,
      both: 0,
      token: this.#fixedMs ** 2,
    };
    return {
      fixed: fixed + (DRIFT.fixed * this.#fixedMs) ** 2,
      both,
      token: token + (DRIFT.token * this.#fixedMs) ** 2,
    };
  }
}

/** A measurement, as far as it can be believed. */
export const clipped = (ms: number, expectedMs: number) =>
  Math.min(ms, OUTLIER * Math.max(EXPECTED_MIN_MS, expectedMs));
