/** Sampling options and the softmax, for several tests. */
import type { Sampling } from "../../worker/engine/decode/sampler.ts";

/** Sampling at temperature 1 with seed 0 and without other options, with the changes of a test. */
export function sampling(changes: Partial<Sampling> = {}): Sampling {
  return {
    temperature: 1,
    seed: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: [],
    ...changes,
  };
}

export function softmax(logits: readonly number[]): number[] {
  const weights = logits.map((logit) => Math.exp(logit));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}
