/**
 * Gumbel noise that depends only on the seed, the position and the token id: not on the batch, the worker or earlier
 * draws. Sampling is argmax(logit + noise), which is an exact draw from softmax(logits) (the Gumbel-max trick). With
 * the seed, anyone can repeat the draw at any position.
 *
 * The constants are those of MurmurHash3's 32-bit finalizer (public domain). The values of this file are part of the API:
 * changing them changes every seeded result.
 */
export class GumbelNoise {
  readonly #seedLow: number;
  readonly #seedHigh: number;
  #key0 = 0;
  #key1 = 0;

  /** @param seed integer, 0 to 2^53 - 1 */
  constructor(seed: number) {
    this.#seedLow = seed >>> 0;
    this.#seedHigh = Math.floor(seed / 2 ** 32);
  }

  /** Moves to a position: the count of tokens generated before it. */
  seek(position: number): void {
    this.#key0 = mix(this.#seedLow ^ mix(this.#seedHigh ^ mix(position + 0x9e3779b9)));
    this.#key1 = mix(this.#seedHigh ^ mix(this.#key0 ^ position));
  }

  /** Standard Gumbel noise for a token at the current position, between -3.7 and GUMBEL_MAX. */
  at(token: number): number {
    const high = this.#high(token);
    return gumbel(high, mix(high ^ this.#key1));
  }

  /** The part of the position in the random words: all that the noise of a token depends on besides its id. */
  get key(): number {
    return this.#key0 | 0;
  }

  /**
   * The same as `at`, or -Infinity if the noise is certainly at most `floor`. One of the two random words is enough to know
   * this, without a logarithm.
   */
  above(token: number, floor: number): number {
    const high = this.#high(token);
    if (floor > 0) {
      // Noise is at most the floor if uniform <= exp(-e) with e = exp(-floor), and so if 1 - uniform >= e.
      // And e is less than 1 / (the first terms of the series of exp(floor)).
      const uniform = ((high >>> 6) + 1) * 2 ** -26;
      const terms = 1 + floor * (1 + floor * (1 / 2 + floor / 6));
      if ((1 - uniform) * terms > 1) return Number.NEGATIVE_INFINITY;
    }
    return gumbel(high, mix(high ^ this.#key1));
  }

  #high(token: number): number {
    return mix(Math.imul(token, 0x9e3779b1) ^ this.#key0);
  }
}

/** The largest possible noise: -ln(-ln(1 - 2^-53)), rounded up. */
export const GUMBEL_MAX = 36.8;

/** The largest possible difference of two noises. */
export const NOISE_RANGE = GUMBEL_MAX + 3.7;

/** Standard Gumbel noise from two random 32-bit words. */
export function gumbel(high: number, low: number): number {
  // 52 random bits plus half a step: never 0 and never 1. With 53 bits, a double could not represent the half step.
  const uniform = ((high >>> 6) * 2 ** 26 + (low >>> 6) + 0.5) * 2 ** -52;
  return -Math.log(-Math.log(uniform));
}

function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
