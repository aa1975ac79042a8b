/** One output's way through a grammar, token by token. */
import { AppError } from "../../shared/errors.ts";
import type { Constraint } from "../decode/sampler.ts";
import type { Matcher, Position } from "./matcher.ts";

export class GrammarConstraint implements Constraint {
  readonly #matcher: Matcher;
  readonly #eosIds: ReadonlySet<number>;
  /** The position after each token; null after an end token. */
  readonly #positions: (Position | null)[];

  constructor(matcher: Matcher, eosIds: ReadonlySet<number>) {
    this.#matcher = matcher;
    this.#eosIds = eosIds;
    this.#positions = [matcher.start];
  }

  get isComplete(): boolean {
    const position = this.#positions.at(-1);
    return !position || (position.canEnd && !position.canGoOn);
  }

  mask(logits: Float32Array): void {
    const position = this.#positions.at(-1);
    if (!position) {
      logits.fill(Number.NEGATIVE_INFINITY);
      return;
    }
    const ends = [...this.#eosIds].map((id) => [id, logits[id]!] as const);
    if (!position.canEnd && position.mask.every((bits) => bits === 0)) throw notSpelled();
    forbid(logits, position.mask);
    for (const [id, logit] of ends) logits[id] = position.canEnd ? logit : Number.NEGATIVE_INFINITY;
  }

  accept(token: number): void {
    let position = this.#positions.at(-1) ?? null;
    if (this.#eosIds.has(token)) {
      if (!position?.canEnd) throw foreign(token);
      this.#positions.push(null);
      return;
    }
    const bytes = this.#matcher.trie.bytesOf(token);
    if (!bytes) throw foreign(token);
    for (const byte of bytes) {
      position = position?.after(byte) ?? null;
      if (!position) throw foreign(token);
    }
    this.#positions.push(position);
  }

  rewind(count: number): void {
    this.#positions.length -= count;
  }
}

function forbid(logits: Float32Array, mask: Uint32Array): void {
  for (let id = 0; id < logits.length; id++) {
    if (((mask[id >>> 5]! >>> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
  }
}

const foreign = (token: number) => new Error(`token ${token} is not what the grammar allows`);

function notSpelled(): AppError {
  const message = "response_format asks for what no token of the model begins with";
  return new AppError("invalid_request", message, { param: "response_format" });
}
