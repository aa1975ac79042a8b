/**
 * Runs several tokens of sequences through each model at once, which costs little more than one token of each. The tokens
 * are drafts or forced tokens; the token of every position is still chosen from the logits of that position.
 */
import { hostOf, type Decoder, type ScoreInput } from "../decoder/decoder.ts";
import type { RunCosts } from "./run-costs.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";

/** Logits of a model that has already run the drafts: after its pending token, and after each draft. */
export interface KnownLogits {
  readonly model: ModelState;
  readonly logits: readonly Float32Array[];
}

export interface DraftedSequence {
  readonly sequence: Sequence;
  /** Expected next tokens. */
  readonly drafts: readonly number[];
  /** Logits of the model that made the drafts, which is not run again; null if all models are run. */
  readonly known: KnownLogits | null;
}

/** @returns for each sequence one step for each accepted draft, and one for the token after them */
export async function verify(all: readonly DraftedSequence[], costs?: RunCosts): Promise<Step[][]> {
  const inputs = all.flatMap(({ sequence, drafts, known }) =>
    sequence.modelStates
      .filter((model) => model !== known?.model)
      // Models may have prompts with different last tokens.
      .map((model) => ({ model, ids: [model.pendingTokens[0]!, ...drafts] })),
  );
  const logits = new Map<ModelState, readonly Float32Array[]>();
  for (const [host, group] of Map.groupBy(inputs, ({ model }) => hostOf(model.decoder))) {
    const startedMs = performance.now();
    const rows = await scoreGroup(
      host,
      group.map(({ model, ids }) => ({ sequence: model.decoderSequence, ids })),
    );
    const tokens = group.length * Math.max(...group.map(({ ids }) => ids.length));
    costs?.record(host, { ms: performance.now() - startedMs, tokens });
    for (const [i, { model }] of group.entries()) logits.set(model, rows[i]!);
  }
  return all.map(({ sequence, drafts, known }) => {
    for (const model of sequence.modelStates) if (logits.has(model)) sequence.countRun(model);
    if (known) logits.set(known.model, known.logits);
    return chooseTokens(sequence, drafts, logits);
  });
}

/** The logits of sequences of one decoder and its adapters. */
async function scoreGroup(host: Decoder, inputs: readonly ScoreInput<unknown>[]) {
  if (inputs.length > 1 && host.scoreAll) return host.scoreAll(inputs);
  const rows: Float32Array[][] = [];
  for (const { sequence, ids } of inputs) rows.push(await host.score(sequence, ids));
  return rows;
}

function chooseTokens(
  sequence: Sequence,
  drafts: readonly number[],
  logits: ReadonlyMap<ModelState, readonly Float32Array[]>,
): Step[] {
  const positions = drafts.length + 1;
  const steps: Step[] = [];
  for (let i = 0; i < positions; i++) {
    const step = sequence.chooseToken(sequence.modelStates.map((model) => logits.get(model)![i]!));
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
