/** The runs that give sequences their next logits: one model after the other, because running them in parallel is slower. */
import { hostOf } from "../decoder/decoder.ts";
import { catchUp } from "./prefill.ts";
import type { ModelInput } from "./remote-path.ts";
import type { RunCosts } from "./run-costs.ts";
import type { ModelState, Sequence } from "./sequence.ts";

export const nextInputs = (models: readonly ModelState[]): ModelInput[] =>
  models.map((model) => ({ model, id: model.pendingTokens.at(-1)! }));

/** Tokens by which gated pairs catch up in one step, unless a single sequence needs more: about a chunk of a prompt. */
const CATCH_UP_TOKENS = 128;

/**
 * Runs the pairs of gated sequences where the shift is applied, after they have caught up, and adds their logits.
 * @returns sequences that wait for the next step, because others had to catch up first; they keep the base's logits
 */
export async function decodeGated(
  sequences: readonly Sequence[],
  logits: Map<ModelState, Float32Array>,
  costs: RunCosts,
): Promise<ReadonlySet<Sequence>> {
  const gated = sequences.filter(({ isGated }) => isGated);
  const open: ModelState[] = [];
  const waiting = new Set<Sequence>();
  let tokensLeft = CATCH_UP_TOKENS;
  // Those that have waited come first.
  for (const sequence of gated.toSorted(
    (a, b) => Number(b.baseLogits !== null) - Number(a.baseLogits !== null),
  )) {
    const [base, ...others] = sequence.modelStates;
    const row = sequence.baseLogits ?? logits.get(base!)!;
    logits.set(base!, row);
    if (!sequence.needsPairs(row)) continue;
    const count = others.reduce((sum, { pendingTokens }) => sum + pendingTokens.length - 1, 0);
    if (count > tokensLeft && tokensLeft < CATCH_UP_TOKENS) {
      sequence.baseLogits ??= row.slice();
      waiting.add(sequence);
      continue;
    }
    tokensLeft -= count;
    for (const model of others) await catchUp(model);
    open.push(...others);
  }
  for (const [model, row] of await decodeAll(nextInputs(open), costs)) logits.set(model, row);
  return waiting;
}

/** Decodes one token of each model state. */
export async function decodeAll(
  inputs: readonly ModelInput[],
  costs: RunCosts,
): Promise<Map<ModelState, Float32Array>> {
  const logits = new Map<ModelState, Float32Array>();
  for (const [decoder, group] of Map.groupBy(inputs, ({ model }) => hostOf(model.decoder))) {
    const startedMs = performance.now();
    const results = await decoder.decode(
      group.map(({ model, id }) => ({ sequence: model.decoderSequence, id })),
    );
    costs.record(decoder, { ms: performance.now() - startedMs, tokens: group.length });
    for (const [i, { model }] of group.entries()) logits.set(model, results[i]!);
  }
  return logits;
}
