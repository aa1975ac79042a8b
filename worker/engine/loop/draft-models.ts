/** Drafts of experts: each runs one token at a time of all sequences for which it drafts. */
import { decodeAll } from "./decode.ts";
import type { RunCosts } from "./run-costs.ts";
import type { Sequence } from "./sequence.ts";
import type { KnownLogits } from "./verify.ts";

interface Drafting {
  readonly sequence: Sequence;
  /** Runs of its draft model. The last one makes no draft. */
  readonly count: number;
}

interface ModelDrafts {
  readonly drafts: number[];
  readonly known: KnownLogits & { readonly logits: Float32Array[] };
}

/** Samples each draft from the logits of the sequence's draft model, with the noise of that position. */
export async function draftWithModels(
  all: readonly Drafting[],
  costs: RunCosts,
): Promise<ReadonlyMap<Sequence, ModelDrafts>> {
  const drafted = new Map<Sequence, ModelDrafts>(
    all.map(({ sequence }) => [
      sequence,
      { drafts: [], known: { model: sequence.draftModel!, logits: [] } },
    ]),
  );
  let active = all;
  try {
    for (let i = 0; active.length > 0; i++) {
      const inputs = active.map(({ sequence }) => {
        const { drafts, known } = drafted.get(sequence)!;
        return { model: known.model, id: drafts.at(-1) ?? known.model.pendingTokens[0]! };
      });
      const logits = await decodeAll(inputs, costs);
      const isContinued = ({ sequence, count }: Drafting) => {
        const { drafts, known } = drafted.get(sequence)!;
        known.logits.push(logits.get(known.model)!);
        const draft = i + 1 < count ? sampleDraft(sequence, known.logits.at(-1)!) : null;
        if (draft === null) return false;
        sequence.request.sampler.accept(draft);
        drafts.push(draft);
        return true;
      };
      const startedMs = performance.now();
      const next = active.filter(isContinued);
      if (next.length > 0) costs.recordChoosing((performance.now() - startedMs) / next.length);
      active = next;
    }
  } finally {
    for (const [{ request }, { drafts }] of drafted) request.sampler.rewind(drafts.length);
  }
  return drafted;
}

/**
 * The token that the draft model alone would give. Null if its logits allow none. The sequence does not fail then, because
 * it may never reach the drafted position.
 */
export function sampleDraft(sequence: Sequence, draftModelLogits: Float32Array): number | null {
  try {
    return sequence.sample(draftModelLogits);
  } catch {
    return null;
  }
}
