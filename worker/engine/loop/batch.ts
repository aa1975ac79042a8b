/**
 * The decode loop. All running sequences take each step together; each has its own models, prompts, alpha, sampling
 * and limits. The folder loop/ works on token ids and logits, and knows no queue, thread or chat template.
 *
 * The batch here is the set of sequences that run now (continuous batching), not a batch of requests (worker/batches/).
 *
 * One token of one sequence, in order:
 *
 *     prefill         Batch.#prefillChunk        prompt tokens into the models' KV caches, 16 to 128 tokens a step
 *     decode          decodeAll                  one run per model, for all sequences that use it
 *                     verify.ts, speculate.ts    several tokens of one sequence in one run
 *     average         decode/weighted-sum.ts     several experts (or antiexperts) as one
 *     combine         decode/combine.ts          logits = base + alpha * (expert - antiexpert)
 *     guards          decode/guards.ts           limit the shift
 *     constraint      grammar/constraint.ts      -Infinity for tokens that the response format forbids
 *     sampling        decode/sampler.ts          penalties, bias, temperature, decode/truncate.ts, draw
 *     analysis        decode/token-analysis.ts   log-probabilities and trace of the token, if the request asks for them
 *     output          decode/output.ts           text (detokenizer.ts), end tokens, stop-strings.ts, token limit
 *
 * sequence.ts takes one token from average to output. ../scheduler.ts decides which sequences run.
 */
import { RunningMean } from "../decode/draft.ts";
import { RemoteDecoder } from "../remote/remote-decoder.ts";
import type { PrefixCache } from "../decoder/prefix-cache.ts";
import type { ModelInput } from "./remote-run.ts";
import { RemoteRuns } from "./remote-runs.ts";
import { Sequence, type GenerateRequest, type ModelState, type Step } from "./sequence.ts";
import { Speculator } from "./speculate.ts";
import { verify } from "./verify.ts";

/** Prompt tokens that one step may prefill while no sequence waits for its next token. A larger chunk is not faster. */
const PREFILL_CHUNK_TOKENS = 128;
/** Prompt tokens that a step prefills at least: with fewer, a prefill is hardly faster than decoding. */
const PREFILL_TOKENS_MIN = 16;

/** Forced tokens that one step scores. The other sequences wait meanwhile, and the logits of all tokens are in memory. */
export const SCORE_CHUNK_TOKENS = 32;
/** While other sequences generate: scoring so few tokens takes hardly longer than the run with one. */
const SCORE_TOKENS_BESIDE = 4;
/** Logits of one model that one step scores: with a large vocabulary, measuring a token takes milliseconds. */
const SCORE_LOGITS_MAX = 2 ** 20;

export interface BatchOptions {
  /** Draft tokens while only one sequence runs. Changes the speed, never the tokens. */
  readonly speculate: boolean;
  /** Keeps the KV rows of earlier prompts; absent if prefixes are not cached. */
  readonly prefixCache?: PrefixCache;
}

export class Batch {
  readonly #sequences = new Map<Sequence, Speculator | null>();
  readonly #speculate: boolean;
  readonly #prefixCache: PrefixCache | null;
  readonly #remote: RemoteRuns;
  /** Time of one prompt token, and of a step's other runs, in ms. */
  readonly #prefillTokenMs = new RunningMean(0, 0);
  readonly #decodeMs = new RunningMean(0, 0);
  #lastScored: Sequence | undefined;

  constructor({ speculate, prefixCache }: BatchOptions = { speculate: true }) {
    this.#speculate = speculate;
    this.#prefixCache = prefixCache ?? null;
    this.#remote = new RemoteRuns(speculate);
  }

  get size(): number {
    return this.#sequences.size;
  }

  /** Adds a sequence, which runs from the next step on. Returns null if its output is finished: by resumed tokens, or empty. */
  add(request: GenerateRequest): Sequence | null {
    const { resume, scoredPrompt, forcedTokens, output, sampler } = request;
    const promptCount = scoredPrompt?.tokens.length ?? 0;
    for (const token of resume.slice(promptCount)) {
      sampler.accept(token);
      if (output.push(token).finish) return null;
    }
    if (output.finish && resume.length >= promptCount) return null;
    const sequence = new Sequence(request);
    const { base } = request.models;
    if (base instanceof RemoteDecoder) this.#remote.add(sequence, base.base);
    const isGiven = forcedTokens !== undefined || scoredPrompt !== undefined;
    const canDraft =
      this.#speculate &&
      !isGiven &&
      !this.#remote.has(sequence) &&
      Speculator.isSupported(sequence);
    this.#sequences.set(sequence, canDraft ? new Speculator() : null);
    return sequence;
  }

  /** Removes a sequence, finished or not, and frees its KV caches. */
  remove(sequence: Sequence): void {
    if (!this.#sequences.delete(sequence)) return;
    this.#remote.remove(sequence);
    sequence.close();
  }

  /**
   * Waits until a step may have something to do: while all sequences wait for a remote base, until a reply arrives or `wake`
   * is called. Returns whether it has waited.
   */
  async ready(): Promise<boolean> {
    const sequences = [...this.#sequences.keys()];
    const isWaiting = (sequence: Sequence) =>
      isPrefilled(sequence) && this.#remote.isWaiting(sequence);
    if (!sequences.every(isWaiting)) return false;
    await this.#remote.arrival();
    return true;
  }

  /** Ends the wait of `ready`: a sequence was added, or has to be removed. */
  wake(): void {
    this.#remote.wake();
  }

  /** The sequence's speculator; null if no tokens are drafted for it. */
  speculator(sequence: Sequence): Speculator | null {
    return this.#sequences.get(sequence) ?? null;
  }

  /**
   * Prefills up to one chunk. Then gives every prefilled sequence its next token, or several where tokens are drafted,
   * and one of those with given tokens its next ones. Removes the sequences that finish or fail.
   */
  async step(): Promise<Step[]> {
    await this.#prefillChunk();
    const prefilled = [...this.#sequences.keys()].filter(isPrefilled);
    const startedMs = performance.now();
    const local = prefilled.filter((sequence) => !this.#remote.has(sequence));
    const scored = this.#nextScored(local);
    const generated = local.filter(({ isForced }) => !isForced);
    const [first] = generated;
    const speculator = this.size === 1 && first ? this.speculator(first) : null;
    const steps =
      (speculator && (await speculator.step(first!))) ?? (await this.#decode(generated, prefilled));
    if (scored) {
      const { vocabSize } = scored.request.models;
      const chunk = generated.length > 0 ? SCORE_TOKENS_BESIDE : SCORE_CHUNK_TOKENS;
      const count = Math.min(chunk, Math.ceil(SCORE_LOGITS_MAX / vocabSize));
      const tokens = scored.nextForcedTokens(count);
      steps.push(...(await verify(scored, tokens.slice(0, -1))));
    }
    if (prefilled.length > 0) this.#decodeMs.observe(performance.now() - startedMs);
    for (const step of steps) {
      const { sequence } = step;
      if (!("error" in step) && !step.finish) continue;
      // The next prompt of a conversation contains this output.
      if (!("error" in step))
        for (const model of sequence.modelStates) this.#storePrefix(sequence, model);
      this.remove(sequence);
    }
    return steps;
  }

  /** The sequences that are scored take turns. */
  #nextScored(prefilled: readonly Sequence[]): Sequence | undefined {
    const scored = prefilled.filter(({ isForced }) => isForced);
    const last = scored.indexOf(this.#lastScored!);
    return (this.#lastScored = scored[(last + 1) % scored.length]);
  }

  async #prefillChunk(): Promise<void> {
    const tokensMax = this.#prefillTokensMax();
    let tokensLeft = tokensMax;
    const startedMs = performance.now();
    for (const sequence of this.#sequences.keys()) {
      for (const model of sequence.modelStates) {
        // Restored just before the prefill and not in add(): an earlier sequence may have stored the same prefix meanwhile.
        if (tokensLeft > 0) this.#restorePrefix(sequence, model);
        const count = Math.min(tokensLeft, model.pendingTokens.length - 1);
        if (count === 0) continue;
        await model.decoder.prefill(model.decoderSequence, model.pendingTokens.slice(0, count));
        sequence.countRun(model);
        model.pendingTokens = model.pendingTokens.slice(count);
        tokensLeft -= count;
        if (model.pendingTokens.length === 1) this.#storePrefix(sequence, model);
      }
    }
    const count = tokensMax - tokensLeft;
    if (count > 0) this.#prefillTokenMs.observe((performance.now() - startedMs) / count);
  }

  /**
   * Prompt tokens of the next step. If other sequences wait for their next token, the prefill takes about as long as their
   * part of the step, so that a long prompt at most doubles the time between their tokens.
   */
  #prefillTokensMax(): number {
    const [tokenMs, decodeMs] = [this.#prefillTokenMs.value, this.#decodeMs.value];
    if (tokenMs === 0 || decodeMs === 0 || ![...this.#sequences.keys()].some(isPrefilled)) {
      return PREFILL_CHUNK_TOKENS;
    }
    const count = Math.floor(decodeMs / tokenMs);
    return Math.min(PREFILL_CHUNK_TOKENS, Math.max(PREFILL_TOKENS_MIN, count));
  }

  #restorePrefix(sequence: Sequence, model: ModelState): void {
    const { tenant } = sequence.request;
    const { decoder, decoderSequence, pendingTokens } = model;
    if (!this.#prefixCache || tenant === undefined) return;
    if (pendingTokens.length === 1 || sequence.tokensInCache(model).length > 0) return;
    const count = this.#prefixCache.restore(tenant, decoder, decoderSequence, pendingTokens);
    model.pendingTokens = pendingTokens.slice(count);
    if (model === sequence.modelStates[0]) {
      sequence.cachedTokens = Math.min(count, model.prompt.length);
    }
  }

  #storePrefix(sequence: Sequence, model: ModelState): void {
    const { tenant } = sequence.request;
    if (tenant === undefined) return;
    const tokens = sequence.tokensInCache(model);
    this.#prefixCache?.store(tenant, model.decoder, model.decoderSequence, tokens);
  }

  /** One token of each local sequence, and what can be done of the remote ones. */
  async #decode(sequences: readonly Sequence[], prefilled: readonly Sequence[]): Promise<Step[]> {
    const remote = prefilled.filter((sequence) => this.#remote.has(sequence));
    const logits = await decodeAll([
      ...sequences.flatMap(({ modelStates }) =>
        modelStates.map((model) => ({ model, id: model.pendingTokens[0]! })),
      ),
      ...this.#remote.pairInputs(remote),
    ]);
    const steps = sequences.map((sequence) => {
      for (const model of sequence.modelStates) sequence.countRun(model);
      const step = sequence.chooseToken(sequence.modelStates.map((model) => logits.get(model)!));
      if (!("error" in step) && this.size === 1) {
        const { draftModel } = sequence;
        this.speculator(sequence)?.observe(
          sequence,
          step.token,
          draftModel && logits.get(draftModel)!,
        );
      }
      return step;
    });
    return [...steps, ...this.#remote.advance(remote, logits)];
  }
}

function isPrefilled({ modelStates }: Sequence): boolean {
  return modelStates.every(({ pendingTokens }) => pendingTokens.length === 1);
}

/** Decodes one token of each model state: one run per model. Running models in parallel is slower. */
async function decodeAll(inputs: readonly ModelInput[]): Promise<Map<ModelState, Float32Array>> {
  const logits = new Map<ModelState, Float32Array>();
  for (const [decoder, group] of Map.groupBy(inputs, ({ model }) => model.decoder)) {
    const startedMs = performance.now();
    const results = await decoder.decode(
      group.map(({ model, id }) => ({ sequence: model.decoderSequence, id })),
    );
    if (group.length === 1) group[0]!.model.runMs.observe(performance.now() - startedMs);
    for (const [i, { model }] of group.entries()) logits.set(model, results[i]!);
  }
  return logits;
}
