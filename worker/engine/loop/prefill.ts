/**
 * Prefill: prompt tokens go into the models' KV caches in chunks, so that sequences that generate wait for one chunk at most.
 * Prefixes of earlier prompts come from the prefix cache.
 */
import type { PrefixCache } from "../decoder/prefix-cache.ts";
import type { ModelState, Sequence } from "./sequence.ts";

/** Whether the next token can be generated: of each model only the last token has not been run, or few of a gated pair. */
export function isPrefilled(sequence: Sequence): boolean {
  return sequence.modelStates.every(
    (model) => model.pendingTokens.length <= sequence.pendingMax(model).most,
  );
}

/** Runs all pending tokens of a model but the last. */
export async function catchUp(model: ModelState): Promise<void> {
  const { decoder, decoderSequence, pendingTokens } = model;
  if (pendingTokens.length === 1) return;
  await decoder.prefill(decoderSequence, pendingTokens.slice(0, -1));
  model.pendingTokens = pendingTokens.slice(-1);
}

export class Prefill {
  readonly #cache: PrefixCache | null;

  /** @param cache null if prefixes are not cached */
  constructor(cache: PrefixCache | null) {
    this.#cache = cache;
  }

  /**
   * Runs the next prompt tokens of a sequence.
   * @returns how many were run
   */
  async run(sequence: Sequence, tokensMax: number): Promise<number> {
    let tokensLeft = tokensMax;
    for (const model of sequence.modelStates) {
      if (model.pendingTokens.length <= sequence.pendingMax(model).usual) continue;
      // Restored just before the prefill and not when the sequence starts: an earlier one may have stored the same prefix meanwhile.
      if (tokensLeft > 0) this.#restore(sequence, model);
      const count = Math.min(tokensLeft, model.pendingTokens.length - 1);
      if (count === 0) continue;
      await model.decoder.prefill(model.decoderSequence, model.pendingTokens.slice(0, count));
      sequence.countRun(model);
      model.pendingTokens = model.pendingTokens.slice(count);
      tokensLeft -= count;
      const isPrompt = sequence.tokens.length === sequence.request.resume.length;
      if (isPrompt && model.pendingTokens.length === 1) this.#store(sequence, model);
    }
    return tokensMax - tokensLeft;
  }

  /** Stores all tokens of a sequence: the next prompt of a conversation contains its output. */
  storeAll(sequence: Sequence): void {
    for (const model of sequence.modelStates) this.#store(sequence, model);
  }

  #restore(sequence: Sequence, model: ModelState): void {
    const { tenant } = sequence.request;
    const { decoder, decoderSequence, pendingTokens } = model;
    if (!this.#cache || tenant === undefined) return;
    if (pendingTokens.length === 1 || sequence.tokensInCache(model).length > 0) return;
    const count = this.#cache.restore(tenant, decoder, decoderSequence, pendingTokens);
    model.pendingTokens = pendingTokens.slice(count);
    if (model === sequence.modelStates[0]) {
      sequence.cachedTokens = Math.min(count, model.prompt.length);
    }
  }

  #store(sequence: Sequence, model: ModelState): void {
    const { tenant } = sequence.request;
    if (tenant === undefined) return;
    const tokens = sequence.tokensInCache(model);
    this.#cache?.store(tenant, model.decoder, model.decoderSequence, tokens);
  }
}
