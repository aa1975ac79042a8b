/**
 * One inference timeline of one model: it owns the KV cache and turns new token ids into the next logits.
 * Prefill and decode are the same call with many ids or one.
 */
import { Tensor } from "onnxruntime-node";
import type { Decoder } from "./decoder.ts";

export class Sequence {
  readonly #decoder: Decoder;
  #past: Record<string, Tensor>;
  #length = 0;

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
    this.#past = decoder.emptyPast();
  }

  /** Tokens in the cache. */
  get length(): number {
    return this.#length;
  }

  /**
   * Runs the model on new tokens.
   * @param ids one or more token ids that follow what the cache holds
   * @returns [>= V] logits after the last id; valid until the next call
   */
  async forward(ids: readonly number[]): Promise<Float32Array> {
    const { logits, present } = await this.#decoder.run(ids, this.#length, this.#past);
    this.#past = present;
    this.#length += ids.length;
    return logits;
  }
}
