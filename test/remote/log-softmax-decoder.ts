/**
 * A local base that returns log-probabilities instead of logits, as a remote one does. Only the repetition penalty sees the
 * difference: it multiplies.
 */
import type { Decoder } from "../../worker/engine/decoder/decoder.ts";
import { logSoftmax } from "../support/base-server/logits.ts";

export function withLogprobs(decoder: Decoder, vocabSize: number): Decoder {
  const told = (logits: Float32Array) => logSoftmax(logits.slice(0, vocabSize));
  return {
    logitsWidth: decoder.logitsWidth,
    fallbackReason: decoder.fallbackReason,
    hasExactRows: decoder.hasExactRows,
    kvRows: decoder.kvRows,
    rewind: decoder.rewind,
    get cacheBytes() {
      return decoder.cacheBytes;
    },
    cacheBytesFor: (lengths) => decoder.cacheBytesFor(lengths),
    open: () => decoder.open(),
    close: (sequence) => decoder.close(sequence),
    prefill: (sequence, ids) => decoder.prefill(sequence, ids),
    prefillAll: async (inputs) => (await decoder.prefillAll(inputs)).map(told),
    decode: async (inputs) => (await decoder.decode(inputs)).map(told),
    score: async (sequence, ids) => (await decoder.score(sequence, ids)).map(told),
    scoreAll: null,
  };
}
