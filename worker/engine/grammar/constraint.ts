/** Makes one output match a grammar: masks the tokens that are not allowed next, and follows the accepted tokens. */
import { AppError } from "../../../shared/api/errors.ts";
import type { Constraint } from "../decode/sampler.ts";
import type { Matcher, GrammarPosition } from "./matcher.ts";

export class GrammarConstraint implements Constraint {
  readonly #matcher: Matcher;
  readonly #eosIds: ReadonlySet<number>;
  /** The position before the first token and after each token; null after an end token. */
  readonly #positions: (GrammarPosition | null)[];

  constructor(matcher: Matcher, eosIds: ReadonlySet<number>) {
    this.#matcher = matcher;
    this.#eosIds = eosIds;
    this.#positions = [matcher.start];
  }

  get isComplete(): boolean {
    const position = this.#positions.at(-1);
    return !position || (position.canEnd && !position.canContinue);
  }

  mask(logits: Float32Array): void {
    const position = this.#positions.at(-1);
    if (!position) {
      logits.fill(Number.NEGATIVE_INFINITY);
      return;
    }
    const endLogits = [...this.#eosIds].map((id) => [id, logits[id]!] as const);
    if (!position.canEnd && position.mask.every((bits) => bits === 0)) throw noMatchingToken();
    forbidTokens(logits, position.mask);
    for (const [id, logit] of endLogits)
      logits[id] = position.canEnd ? logit : Number.NEGATIVE_INFINITY;
  }

  accept(token: number): void {
    let position = this.#positions.at(-1) ?? null;
    if (this.#eosIds.has(token)) {
      if (!position?.canEnd) throw forbiddenToken(token);
      this.#positions.push(null);
      return;
    }
    const bytes = this.#matcher.trie.bytesOf(token);
    if (!bytes) throw forbiddenToken(token);
    for (const byte of bytes) {
      position = position?.advance(byte) ?? null;
      if (!position) throw forbiddenToken(token);
    }
    this.#positions.push(position);
  }

  rewind(count: number): void {
    this.#positions.length -= count;
  }
}

/** @param mask [V / 32] one bit for each allowed token */
function forbidTokens(logits: Float32Array, mask: Uint32Array): void {
  for (let id = 0; id < logits.length; id++) {
    if (((mask[id >>> 5]! >>> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
  }
}

const forbiddenToken = (token: number) => new Error(`Token ${token} is not allowed by the grammar`);

function noMatchingToken(): AppError {
  const message =
    "response_format: no token of this model is allowed at this position of the output";
  return new AppError("invalid_request", message, { param: "response_format" });
}
