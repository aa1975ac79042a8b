/** The logits [V] of a model that may have more than the vocabulary: these are padding. */
export function unpadded(logits: Float32Array, vocabSize: number): Float32Array {
  if (logits.length < vocabSize) {
    throw new RangeError(
      `A model returned ${logits.length} logits; the vocabulary has ${vocabSize} tokens`,
    );
  }
  return logits.subarray(0, vocabSize);
}
