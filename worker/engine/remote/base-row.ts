/**
 * The answer of a remote base about one position: log-probabilities of its most likely tokens, and of tokens that were asked for
 * by id. All other tokens are unseen; a row bounds what they can be.
 *
 * Log-probabilities serve as logits: they differ from logits by one constant for each position, and a softmax removes it.
 */

/** A token and its log-probability in nats. */
export type TokenLogprob = readonly [id: number, logprob: number];

/** The values of a row beside its two lists. */
export interface RowDetails {
  /** Log-probabilities of tokens among the k most likely ones that are never sampled, and whose ids are not known. */
  readonly unusable?: readonly number[];
  /** Length of the list that was asked for, if a server's list may be merged or shorter. */
  readonly topCount?: number;
  /** No unseen token has a larger log-probability; absent: than the last of the list. */
  readonly floor?: number;
  /**
   * Tokens that are not listed although they count as so many nats more likely than they are: they are so much below the floor, and have
   * so much more of the rest.
   */
  readonly below?: ReadonlyMap<number, number>;
  /** Factor of all rounding: the sum of the told values as a multiple of that of the row. */
  readonly scale?: number;
}

/** A server prints log-probabilities with rounding; their sum over k tokens is off by no more than this. */
const SUM_TOLERANCE = 1e-3;
/** Half of the distance between neighbouring float32 numbers, as a fraction of them. */
const HALF_STEP = 2 ** -24;
/** Roundings of a told probability beside those of the normaliser: logit less the largest one, exp, division, logarithm. */
const VALUE_ROUNDINGS = 8;
/** A server's vocabulary may be padded with up to so many ids that no token uses. */
const PADDING_MAX = 1024;

/**
 * A token that is not in the list of most likely ones is at most as likely as the last of them; if it was asked for in another
 * call, up to so many nats of rounding.
 */
const ASKED_TOLERANCE = 0.3;

/** A reply that cannot be right: another position, tempered values, a broken server. */
export class InvalidRow extends Error {}

/** The server will never send such a stream. */
export class RefusedStream extends InvalidRow {}

export class BaseRow {
  readonly vocabSize: number;
  /** Token id -> log-probability. */
  readonly seen: ReadonlyMap<number, number>;
  /** Length of the list of most likely tokens that was asked for: some of its entries may be no tokens of their own in the row. */
  readonly topCount: number;
  /** Probability of the tokens of that list together. */
  readonly topMass: number;
  /** Probability of the unseen tokens together, as told. */
  readonly rest: number;
  /**
   * The unseen tokens have together at most this probability. A server computes in float32, and a sum of V probabilities may
   * be off by V times half a step. Each value is rounded some times more, in proportion to its logarithm.
   */
  readonly restMax: number;
  /** No unseen token has a larger log-probability: neither than the floor of the list, nor than all of them together. */
  readonly unseenMax: number;
  /** The most likely token; -1 if only tokens that are never sampled are listed. */
  readonly likeliest: number;
  readonly #top: readonly TokenLogprob[];
  readonly #unusable: readonly number[];
  readonly #details: RowDetails;
  readonly #floor: number;
  /** Tokens that are known only because they were asked for. */
  readonly #asked = new Set<number>();

  /**
   * @param vocabSize of the tokenizer. The server's may be larger: ids above it are no tokens, but have a part of the mass.
   * @param top the k most likely tokens
   * @param asked other tokens
   * @throws InvalidRow if no distribution over the vocabulary has these values
   */
  constructor(
    vocabSize: number,
    top: readonly TokenLogprob[],
    asked: readonly TokenLogprob[] = [],
    details: RowDetails = {},
  ) {
    const { unusable = [], topCount = top.length, scale = 1 } = details;
    const list = readList(vocabSize, top, unusable);
    const { seen, topMass, isPadded } = list;
    const { floor = list.floor } = details;
    const mass = list.mass + this.#addAsked(vocabSize, seen, asked, floor, details);
    if (mass > 1 + SUM_TOLERANCE * scale) {
      throw new InvalidRow(`the probabilities of ${seen.size} tokens add up to ${mass}`);
    }
    const unseenCount = vocabSize - seen.size - unusable.length;
    const unlistedCount = unseenCount + (isPadded ? PADDING_MAX : 0);
    const rest = Math.max(0, 1 - mass);
    // Otherwise the list does not have the most likely tokens, or the values are not of this softmax.
    if (rest > unlistedCount * Math.exp(floor) + SUM_TOLERANCE * scale) {
      throw new InvalidRow(
        `${unseenCount} unlisted tokens would have a probability of ${rest} together, and each at most ${Math.exp(floor)}`,
      );
    }
    const rounding = HALF_STEP * scale * (vocabSize + VALUE_ROUNDINGS * list.spread);
    this.vocabSize = vocabSize;
    this.seen = seen;
    this.topCount = topCount;
    this.topMass = topMass;
    this.rest = unseenCount === 0 ? 0 : rest;
    this.restMax = unseenCount === 0 ? 0 : Math.min(1, rest + rounding);
    this.unseenMax =
      unseenCount === 0 ? Number.NEGATIVE_INFINITY : Math.min(floor, Math.log(this.restMax));
    this.likeliest = list.likeliest;
    this.#top = top;
    this.#unusable = unusable;
    this.#details = details;
    this.#floor = floor;
  }

  /** Adds tokens that are not listed to the seen ones. Returns their part of the mass that the list leaves. @throws InvalidRow */
  #addAsked(
    vocabSize: number,
    seen: Map<number, number>,
    asked: readonly TokenLogprob[],
    floor: number,
    { below }: RowDetails,
  ): number {
    let mass = 0;
    for (const [id, logprob] of asked) {
      checkValue(vocabSize, id, logprob);
      if (seen.has(id) || id >= vocabSize) continue;
      const nats = below?.get(id) ?? 0;
      if (logprob + nats > floor + ASKED_TOLERANCE) {
        throw new InvalidRow(
          `token ${id} has the log-probability ${logprob}, and is not in a list that ends at ${floor - nats}`,
        );
      }
      seen.set(id, logprob);
      this.#asked.add(id);
      mass += Math.exp(logprob + nats);
    }
    return mass;
  }

  /** The row with more tokens that were asked for. @throws InvalidRow */
  withAsked(more: readonly TokenLogprob[]): BaseRow {
    const asked = [...this.#asked].map((id): TokenLogprob => [id, this.seen.get(id)!]);
    return new BaseRow(this.vocabSize, this.#top, [...asked, ...more], this.#details);
  }

  /** An unseen token is at least so many nats less likely than `unseenMax` allows. */
  below(id: number): number {
    const nats = this.#details.below?.get(id);
    return nats === undefined ? 0 : Math.max(0, this.unseenMax - this.#floor + nats);
  }

  /** The most likely token. */
  get known(): TokenLogprob {
    return [this.likeliest, this.seen.get(this.likeliest)!];
  }

  /** Whether a token is in the list of most likely ones. */
  isListed(id: number): boolean {
    return this.seen.has(id) && !this.#asked.has(id);
  }

  /**
   * [V] the seen log-probabilities; unseen tokens share the rest equally, but none has more than it can have: about a distribution
   * that fits the row.
   * @param out [V]
   */
  fill(out: Float32Array): void {
    const unseenCount = this.vocabSize - this.seen.size - this.#unusable.length;
    const share = Math.max(this.rest, HALF_STEP) / Math.max(1, unseenCount);
    this.#write(out, Math.min(this.unseenMax, Math.log(share)));
    for (const [id, nats] of this.#details.below ?? []) {
      if (!this.seen.has(id)) out[id] = Math.min(out[id]!, this.#floor - nats);
    }
  }

  /** [V] the seen log-probabilities; unseen tokens have `unseenMax`. */
  fillUpper(out: Float32Array): void {
    this.#write(out, this.unseenMax);
  }

  #write(out: Float32Array, unseen: number): void {
    out.fill(unseen);
    for (const [id, logprob] of this.seen) out[id] = logprob;
  }
}

/** A list of most likely tokens. */
function readList(vocabSize: number, top: readonly TokenLogprob[], unusable: readonly number[]) {
  const seen = new Map<number, number>();
  let [floor, most, likeliest] = [0, Number.NEGATIVE_INFINITY, -1];
  let [mass, topMass, spread] = [0, 0, 0];
  const add = (logprob: number) => {
    floor = Math.min(floor, logprob);
    mass += Math.exp(logprob);
    spread += Math.exp(logprob) * (1 - logprob);
  };
  for (const logprob of unusable) {
    checkLogprob("a token", logprob);
    add(logprob);
  }
  for (const [id, logprob] of top) {
    checkValue(vocabSize, id, logprob);
    if (seen.has(id)) throw new InvalidRow(`token ${id} is listed twice`);
    add(logprob);
    if (id >= vocabSize) continue;
    if (logprob > most) [most, likeliest] = [logprob, id];
    seen.set(id, logprob);
    topMass += Math.exp(logprob);
  }
  if (top.length + unusable.length === 0) throw new InvalidRow("no token is listed");
  return { seen, floor, mass, topMass, spread, likeliest, isPadded: seen.size < top.length };
}

function checkValue(vocabSize: number, id: number, logprob: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= vocabSize + PADDING_MAX) {
    throw new InvalidRow(`token ${id} is not in the vocabulary of ${vocabSize} tokens`);
  }
  checkLogprob(`token ${id}`, logprob);
}

function checkLogprob(token: string, logprob: number): void {
  // A server may leave out a value, or write null for NaN.
  const isNumber = typeof logprob === "number" && Number.isFinite(logprob);
  if (!isNumber || logprob > SUM_TOLERANCE) {
    throw new InvalidRow(`${token} has the log-probability ${logprob}`);
  }
}
