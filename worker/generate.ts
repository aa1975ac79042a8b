/**
 * THE loop: prefill, combine, sample, stop, yield. One sequence, token by token, over token ids and logits;
 * it knows no queue, no thread and no prompt text.
 */
import { combineLogits } from "./decode/combine.ts";
import type { Accepted, Output } from "./decode/output.ts";
import type { Sampler } from "./decode/sampler.ts";
import type { Sequence } from "./model/sequence.ts";

/** The three models as the loop sees them. */
export interface Models {
  readonly base: { open(): Pick<Sequence, "forward"> };
  readonly expert: { open(): Pick<Sequence, "forward"> };
  readonly antiexpert: { open(): Pick<Sequence, "forward"> };
  /** V: tokens that exist. A model's logits may be wider; the rest is padding and never drawn. */
  readonly vocabSize: number;
}

/** One tokenized prompt per model: each may have its own template, and all share the generated tokens. */
export interface Prompts {
  readonly base: readonly number[];
  readonly expert: readonly number[];
  readonly antiexpert: readonly number[];
}

export interface GenerateRequest {
  readonly prompts: Prompts;
  /** Strength of the shift. At 0 expert and antiexpert are never run. */
  readonly alpha: number;
  readonly sampler: Sampler;
  readonly output: Output;
  /** Tokens that an earlier attempt has generated: replayed, not generated again. */
  readonly resume: readonly number[];
}

export interface Step extends Accepted {
  readonly token: number;
  /** [V] the steered logits before sampling; overwritten by the next step. */
  readonly logits: Float32Array;
}

/** Yields each new token until one finishes the output. The step that finishes is yielded too. */
export async function* generate(
  models: Models,
  { prompts, alpha, sampler, output, resume }: GenerateRequest,
): AsyncGenerator<Step, void, undefined> {
  for (const token of resume) {
    sampler.accept(token);
    if (output.accept(token).finish) return;
  }
  const base = models.base.open();
  const expert = alpha === 0 ? null : models.expert.open();
  const antiexpert = alpha === 0 ? null : models.antiexpert.open();
  const logits = new Float32Array(models.vocabSize);
  const scratch = new Float32Array(models.vocabSize);
  let fresh: Prompts = {
    base: [...prompts.base, ...resume],
    expert: [...prompts.expert, ...resume],
    antiexpert: [...prompts.antiexpert, ...resume],
  };
  for (;;) {
    // One after the other: on shared cores that beats running them side by side.
    const baseLogits = await base.forward(fresh.base);
    if (expert && antiexpert) {
      const expertLogits = await expert.forward(fresh.expert);
      const antiexpertLogits = await antiexpert.forward(fresh.antiexpert);
      combineLogits(logits, baseLogits, expertLogits, antiexpertLogits, alpha);
    } else {
      if (baseLogits.length < logits.length) {
        throw new RangeError(`logits of ${baseLogits.length} for a vocabulary of ${logits.length}`);
      }
      logits.set(baseLogits.subarray(0, logits.length));
    }
    scratch.set(logits);
    const token = sampler.pick(scratch);
    sampler.accept(token);
    const accepted = output.accept(token);
    yield { ...accepted, token, logits };
    if (accepted.finish) return;
    fresh = { base: [token], expert: [token], antiexpert: [token] };
  }
}
