/** A sequence after a failed run. */
import type { Sequence } from "./sequence.ts";

/** Lets a sequence start again with empty KV caches: a failed run may have left anything in them. The output stays. */
export function restart(sequence: Sequence): void {
  const { modelStates, tokens } = sequence;
  sequence.baseLogits = null;
  for (const model of modelStates) {
    model.decoder.close(model.decoderSequence);
    model.decoderSequence = model.decoder.open();
    model.pendingTokens = [...model.prompt, ...tokens];
  }
}
