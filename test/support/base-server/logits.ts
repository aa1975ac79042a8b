/** The logits behind a fake server of a base: those of a real model, or of a function of the token ids. */
import type { Decoder } from "../../../worker/engine/decoder/decoder.ts";

/** [V] logits after a context. */
export type ContextLogits = (ids: readonly number[]) => Promise<Float32Array>;

/** Computes with a loaded model. Calls run one after the other; common prefixes are computed once. */
export function decoderLogits(decoder: Decoder, vocabSize: number): ContextLogits {
  const sequence = decoder.open();
  let known: number[] = [];
  let last = Promise.resolve<unknown>(null);
  const compute = async (ids: readonly number[]) => {
    let common = 0;
    while (common < ids.length - 1 && known[common] === ids[common]) common++;
    if (known.length > common) decoder.rewind!(sequence, known.length - common);
    known = [...ids];
    const logits = await decoder.score(sequence, ids.slice(common));
    return logits.at(-1)!.slice(0, vocabSize);
  };
  return (ids) => {
    const result = last.then(() => compute(ids));
    last = result.catch(() => null);
    return result;
  };
}

/** Log-probabilities [V] of logits. */
export function logSoftmax(logits: Float32Array): Float32Array {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  return logits.map((logit) => logit - max - Math.log(sum));
}

/** The most likely ids, most likely first. */
export function likeliest(logprobs: Float32Array, count: number): number[] {
  return Array.from(logprobs.keys())
    .toSorted((a, b) => logprobs[b]! - logprobs[a]! || a - b)
    .slice(0, count);
}

/** Contexts whose logits are kept: 8 KiB each with the demo models. */
const CACHED_MAX = 10_000;

/** Keeps the logits of the latest contexts. */
export function cachedLogits(logits: ContextLogits): ContextLogits {
  const known = new Map<string, Promise<Float32Array>>();
  return (ids) => {
    const key = ids.join();
    const result = known.get(key) ?? logits(ids);
    known.delete(key);
    known.set(key, result);
    if (known.size > CACHED_MAX) known.delete(known.keys().next().value!);
    return result;
  };
}
