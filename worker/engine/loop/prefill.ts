/**
 * Prefill: prompt tokens go into the models' KV caches in chunks, so that sequences that generate wait for one chunk at most
 * (step-budget.ts). The run with the last chunk gives the logits of the first token. Prefixes of earlier prompts come from the prefix cache.
 */
import { RunningMean } from "../decode/draft.ts";
import { hostOf, type Decoder } from "../decoder/decoder.ts";
import type { PrefixCache } from "../decoder/prefix-cache.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";
import type { PromptRest } from "./step-budget.ts";

/** Whether the next token can be generated: of each model only the last token has not been run, or few of a gated pair. */
export function isPrefilled(sequence: Sequence): boolean {
  return sequence.modelStates.every(
    (model) => model.pendingTokens.length <= sequence.pendingMax(model).most,
  );
}

/** Models with more pending tokens than usual. */
function behindModels(sequence: Sequence): ModelState[] {
  return sequence.modelStates.filter(
    (model) => model.pendingTokens.length > sequence.pendingMax(model).usual,
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
  /** Time of a prompt token. */
  readonly #tokenMs = new WeakMap<Decoder, RunningMean>();
  /** The sequences of which a part of the prompt was run, and not all of it. */
  readonly #cut = new WeakSet<Sequence>();

  /** @param cache null if prefixes are not cached */
  constructor(cache: PrefixCache | null) {
    this.#cache = cache;
  }

  /** The prompt tokens of a sequence that have to be run; null if there are none. */
  rest(sequence: Sequence): PromptRest | null {
    const models = behindModels(sequence);
    if (models.length === 0) return null;
    const tokenMs = ({ decoder }: ModelState) => this.#tokenMs.get(decoder)?.value ?? 0;
    return {
      tokens: Math.max(...models.map(({ pendingTokens }) => pendingTokens.length - 1)),
      tokenMs: models.reduce((sum, model) => sum + tokenMs(model), 0),
      isCut: this.#cut.has(sequence),
    };
  }

  /**
   * Restores what the prefix cache has of a prompt. To be called just before its first run: an earlier one may have stored the same prefix
   * meanwhile.
   */
  restore(sequence: Sequence): void {
    for (const model of sequence.modelStates) this.#restore(sequence, model);
  }

  /**
   * Runs the rest of prompts, those of all sequences in one run of each model, and gives each sequence its next token. The tokens need
   * no other run, as they would if the prompts' last tokens were decoded.
   */
  async start(sequences: readonly Sequence[]): Promise<Step[]> {
    const logits = new Map<ModelState, Float32Array>();
    const models = sequences.flatMap(({ modelStates }) => modelStates);
    for (const [host, group] of Map.groupBy(models, ({ decoder }) => hostOf(decoder))) {
      const startedMs = performance.now();
      const inputs = group.map(({ decoderSequence, pendingTokens }) => ({
        sequence: decoderSequence,
        ids: pendingTokens,
      }));
      for (const [i, row] of (await host.prefillAll(inputs)).entries()) logits.set(group[i]!, row);
      const tokens = group.reduce((sum, { pendingTokens }) => sum + pendingTokens.length, 0);
      const tokenMs = (performance.now() - startedMs) / tokens;
      for (const decoder of new Set(group.map(({ decoder }) => decoder))) {
        this.#recordTime(decoder, tokenMs);
      }
    }
    return sequences.map((sequence) => {
      for (const model of sequence.modelStates) sequence.countRun(model);
      const isPrompt = sequence.tokens.length === sequence.request.resume.length;
      const step = sequence.chooseToken(sequence.modelStates.map((model) => logits.get(model)!));
      if (isPrompt && !("error" in step)) this.storeAll(sequence);
      return step;
    });
  }

  /** Runs up to `tokensMax` of the next prompt tokens of a sequence in each of its models, without the last one. */
  async run(sequence: Sequence, tokensMax: number): Promise<void> {
    for (const model of behindModels(sequence)) {
      const count = Math.min(tokensMax, model.pendingTokens.length - 1);
      if (count === 0) continue;
      const startedMs = performance.now();
      await model.decoder.prefill(model.decoderSequence, model.pendingTokens.slice(0, count));
      this.#recordTime(model.decoder, (performance.now() - startedMs) / count);
      sequence.countRun(model);
      model.pendingTokens = model.pendingTokens.slice(count);
      const isPrompt = sequence.tokens.length === sequence.request.resume.length;
      if (isPrompt && model.pendingTokens.length === 1) this.#store(sequence, model);
    }
    if (!isPrefilled(sequence)) this.#cut.add(sequence);
  }

  #recordTime(decoder: Decoder, tokenMs: number): void {
    const mean = this.#tokenMs.get(decoder) ?? new RunningMean(0, 0);
    this.#tokenMs.set(decoder, mean);
    mean.observe(tokenMs);
  }

  /** Stores all tokens of a sequence: the next prompt of a conversation contains its output. */
  storeAll(sequence: Sequence): void {
    for (const model of sequence.modelStates) this.#store(sequence, model);
  }

  #restore(sequence: Sequence, model: ModelState): void {
    const { tenant } = sequence.request;
    const { decoder, decoderSequence, pendingTokens } = model;
    if (pendingTokens.length === 1 || sequence.tokensInCache(model).length > 0) return;
    // At once, because growing copies what is there.
    decoder.reserve?.(pendingTokens.length, decoderSequence);
    if (!this.#cache || tenant === undefined) return;
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
