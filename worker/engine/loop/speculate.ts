/**
 * Speculative decoding for a sequence that runs alone. The expert (or prompt lookup) drafts tokens, and the other models
 * verify them in one run each. Every position still samples from its own steered distribution with its own noise, so
 * the output is the same as without drafts. If a draft equals the sampled token, it is accepted, and the logits of the next
 * position are already known.
 */
import { hostOf, type Decoder } from "../decoder/decoder.ts";
import { draftLength, promptLookup, RunningMean } from "../decode/draft.ts";
import type { ModelState, Sequence, Step, TokenStep } from "./sequence.ts";
import { verify, type KnownLogits } from "./verify.ts";

/** Local drafters: a local base has no stream to follow. */
type LocalSource = "expert" | "lookup";

/** Drafts tokens for one sequence, and measures how many of them are accepted. */
export class Speculator {
  readonly #acceptance = { expert: new RunningMean(0.7, 10), lookup: new RunningMean(0.5, 10) };

  /** Whether the KV cache of every model of the sequence can be rewound. */
  static isSupported(sequence: Sequence): boolean {
    return sequence.modelStates.every(({ decoder }) => decoder.rewind !== null);
  }

  /** Drafts and verifies. Returns null, without running a model, if one token at a time is faster. */
  async step(sequence: Sequence): Promise<Step[] | null> {
    const { draftModel, modelStates } = sequence;
    const allMs = modelStates.reduce((sum, { runMs }) => sum + runMs.value, 0);
    const stepMs = stepTime(modelStates);
    // No drafts beyond the token limit: the cache budget and the context have no room for them.
    const tokensLeft = sequence.request.output.tokensLeft;
    const lookupLength = draftLength({
      acceptance: this.#acceptance.lookup.value,
      draftMs: 0,
      verifyMs: allMs,
      stepMs,
    });
    const history = [...sequence.request.prompts.base, ...sequence.tokens];
    const found = promptLookup(history, Math.min(lookupLength, tokensLeft) - 1);
    if (found.length > 0) return this.#verify(sequence, "lookup", found);
    if (!draftModel) return null;
    const acceptance = this.#acceptance.expert.value;
    const draftMs = draftModel.runMs.value;
    const verifyMs = allMs - draftMs;
    const expertLength = draftLength({ acceptance, draftMs, verifyMs, stepMs });
    const count = Math.min(expertLength, tokensLeft);
    if (count === 1) return null;
    const { drafts, logits } = await draftWithModel(sequence, draftModel, count);
    return this.#verify(sequence, "expert", drafts, { model: draftModel, logits });
  }

  /** Updates the acceptance rates after a token that was decoded without drafts. */
  observe(sequence: Sequence, token: number, draftModelLogits: Float32Array | null): void {
    const { sampler, prompts } = sequence.request;
    const before = [...prompts.base, ...sequence.tokens.slice(0, -1)];
    const [found] = promptLookup(before, 1);
    if (found !== undefined) this.#acceptance.lookup.observe(found === token ? 1 : 0);
    if (!draftModelLogits) return;
    sampler.rewind(1);
    this.#acceptance.expert.observe(sampleDraft(sequence, draftModelLogits) === token ? 1 : 0);
    sampler.accept(token);
  }

  async #verify(
    sequence: Sequence,
    source: LocalSource,
    drafts: readonly number[],
    known: KnownLogits | null = null,
  ): Promise<Step[]> {
    const steps = await verify(sequence, drafts, known);
    return steps.map((step, i) => {
      if ("error" in step || i >= drafts.length) return step;
      const isAccepted = step.token === drafts[i];
      this.#count(sequence, source, isAccepted);
      return isAccepted ? asDrafted(step) : step;
    });
  }

  #count(sequence: Sequence, source: LocalSource, isAccepted: boolean): void {
    sequence.drafts[source].drafted++;
    if (isAccepted) sequence.drafts[source].accepted++;
    this.#acceptance[source].observe(isAccepted ? 1 : 0);
  }
}

/** Time of a step without drafts: a model and its adapters share one run, which each of them has measured. */
function stepTime(models: readonly ModelState[]): number {
  const runs = new Map<Decoder, number>();
  for (const { decoder, runMs } of models) {
    const host = hostOf(decoder);
    runs.set(host, Math.max(runs.get(host) ?? 0, runMs.value));
  }
  return [...runs.values()].reduce((sum, ms) => sum + ms, 0);
}

/** A trace says which tokens were drafted. */
function asDrafted(step: TokenStep): TokenStep {
  const { analysis } = step;
  return analysis?.trace ? { ...step, analysis: { ...analysis, isDrafted: true } } : step;
}

/** Runs the draft model `count` times; samples each draft from its logits with the noise of that position. */
async function draftWithModel(
  sequence: Sequence,
  draftModel: ModelState,
  count: number,
): Promise<{ drafts: number[]; logits: Float32Array[] }> {
  const { sampler } = sequence.request;
  const drafts: number[] = [];
  const logits: Float32Array[] = [];
  for (let i = 0; i < count; i++) {
    const startedMs = performance.now();
    const id = drafts.at(-1) ?? draftModel.pendingTokens[0]!;
    const input = { sequence: draftModel.decoderSequence, id };
    const [next] = await draftModel.decoder.decode([input]);
    draftModel.runMs.observe(performance.now() - startedMs);
    logits.push(next!);
    if (i === count - 1) break;
    const draft = sampleDraft(sequence, next!);
    if (draft === null) break;
    sampler.accept(draft);
    drafts.push(draft);
  }
  sampler.rewind(drafts.length);
  return { drafts, logits };
}

/**
 * The token that the draft model alone would give. Null if its logits allow none. The sequence does not fail then, because
 * it may never reach the drafted position.
 */
function sampleDraft(sequence: Sequence, draftModelLogits: Float32Array): number | null {
  try {
    return sequence.sample(draftModelLogits);
  } catch {
    return null;
  }
}
