/**
 * Runs several tokens of one sequence through each model at once, which costs little more than one token. The tokens
 * are drafts or forced tokens; the token of every position is still chosen from the logits of that position.
 */
import { EXTRA_TOKEN_COST } from "../decode/draft.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";

/** Logits of a model that has already run the drafts: after its pending token, and after each draft. */
export interface KnownLogits {
  readonly model: ModelState;
  readonly logits: readonly Float32Array[];
}

/**
 * @param drafts expected next tokens
 * @param known logits of the model that made the drafts, which is not run again
 * @returns one step for each accepted draft, and one for the token after them
 */
export async function verify(
  sequence: Sequence,
  drafts: readonly number[],
  known: KnownLogits | null = null,
): Promise<Step[]> {
  const logits: (readonly Float32Array[])[] = [];
  for (const model of sequence.modelStates) {
    if (model === known?.model) {
      logits.push(known.logits);
      continue;
    }
    logits.push(await scoreDrafts(model, drafts));
    sequence.countRun(model);
  }
  const positions = drafts.length + 1;
  const steps: Step[] = [];
  for (let i = 0; i < positions; i++) {
    const step = sequence.chooseToken(logits.map((modelLogits) => modelLogits[i]!));
    steps.push(step);
    if ("error" in step || step.finish || step.token !== drafts[i]) break;
  }
  const unused = positions - steps.length;
  // With a cache that cannot rewind, the drafts are forced tokens. They are all used unless the sequence fails.
  if (unused > 0) {
    for (const { decoder, decoderSequence } of sequence.modelStates) {
      decoder.rewind?.(decoderSequence, unused);
    }
  }
  return steps;
}

/** Logits after the model's pending token (models may have prompts with different last tokens) and after each draft. */
async function scoreDrafts(model: ModelState, drafts: readonly number[]): Promise<Float32Array[]> {
  const startedMs = performance.now();
  const tokens = [model.pendingTokens[0]!, ...drafts];
  const logits = await model.decoder.score(model.decoderSequence, tokens);
  const extra = EXTRA_TOKEN_COST * drafts.length;
  model.runMs.observe((performance.now() - startedMs) / (1 + extra));
  return logits;
}
