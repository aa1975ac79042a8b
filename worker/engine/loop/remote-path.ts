/**
 * The drafts that the pair's models have run ahead of the output. Their logits are known after the output and after each draft
 * that they have run.
 */
import type { ModelState } from "./sequence.ts";

/** A token that a model has to run next. */
export interface ModelInput {
  readonly model: ModelState;
  readonly id: number;
}

export class PairPath {
  readonly #pair: readonly ModelState[];
  readonly #tokens: number[] = [];
  /** Of each draft (remote-proposal.ts). */
  readonly #margins: number[] = [];
  readonly #logits: Float32Array[][] = [];

  constructor(pair: readonly ModelState[]) {
    this.#pair = pair;
  }

  /** Drafts after the output. */
  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** How far each draft has won (draft-margins.ts). */
  get margins(): readonly number[] {
    return this.#margins;
  }

  /** Logits of the pair after the output; undefined if it must run first. */
  get first(): readonly Float32Array[] | undefined {
    return this.#logits[0];
  }

  /** Logits of the pair after the last draft; undefined if it must run first. */
  get last(): readonly Float32Array[] | undefined {
    return this.#logits[this.#tokens.length];
  }

  /** The next token of each model; [] if all logits are known. */
  get inputs(): ModelInput[] {
    const known = this.#logits.length;
    if (known > this.#tokens.length) return [];
    return this.#pair.map((model) => ({
      model,
      id: known === 0 ? model.pendingTokens[0]! : this.#tokens[known - 1]!,
    }));
  }

  /** @param logits after the inputs; copied, because a view would keep those of the whole batch */
  addLogits(logits: readonly Float32Array[]): void {
    this.#logits.push(logits.map((one) => one.slice()));
  }

  addDraft(token: number, margin: number): void {
    this.#tokens.push(token);
    this.#margins.push(margin);
  }

  /** Drops the drafts after so many of them. */
  cut(count: number): void {
    const ahead = this.#logits.length - 1 - count;
    if (ahead > 0) {
      for (const { decoder, decoderSequence } of this.#pair)
        decoder.rewind!(decoderSequence, ahead);
      this.#logits.length = count + 1;
    }
    this.#tokens.length = Math.min(this.#tokens.length, count);
    this.#margins.length = this.#tokens.length;
  }

  /** The output has this token. The drafts stay if it is the first of them; otherwise the pair's caches are rewound. */
  advance(token: number): void {
    if (this.#tokens[0] === token) {
      this.#tokens.shift();
      this.#margins.shift();
      this.#logits.shift();
    } else this.leave();
  }

  /** Drops the drafts when the pair's caches are empty again. */
  restart(): void {
    this.#tokens.length = 0;
    this.#margins.length = 0;
    this.#logits.length = 0;
  }

  /** Drops the drafts, and the logits after the output. */
  leave(): void {
    this.cut(0);
    this.restart();
  }
}
