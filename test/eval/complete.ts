/** Generates greedy answers of one ensemble with one alpha, in the worker's decode loop. */
import type { GateOptions } from "../../worker/engine/decode/gate.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import { Batch } from "../../worker/engine/loop/batch.ts";
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import type { Sequence } from "../../worker/engine/loop/sequence.ts";
import { sampling } from "../support/sampling.ts";
import { COMPLETION_TOKENS_MAX, type Completion, type Item } from "./task.ts";

/** Questions answered at the same time. */
const BATCH_SIZE = 16;

export interface CompleteOptions {
  readonly gate?: GateOptions;
  /** Called with each sequence that has finished. */
  readonly onEnd?: (sequence: Sequence) => void;
}

/** @returns completions in the order of the items */
export async function complete(
  ensemble: Ensemble,
  items: readonly Item[],
  alpha: number,
  { gate, onEnd }: CompleteOptions = {},
): Promise<Completion[]> {
  const batch = new Batch({ speculate: false });
  const waiting = [...items.entries()];
  const indexOf = new Map<Sequence, number>();
  const completions = items.map((): Completion => ({ text: "", stopped: false }));
  while (waiting.length > 0 || batch.size > 0) {
    for (const [index, item] of waiting.splice(0, BATCH_SIZE - batch.size)) {
      indexOf.set(
        batch.add({ ...requestFor(ensemble, item, alpha), ...(gate && { gate }) })!,
        index,
      );
    }
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const index = indexOf.get(step.sequence)!;
      const text = completions[index]!.text + step.text;
      completions[index] = { text, stopped: step.finish === "stop" };
      if (step.finish) onEnd?.(step.sequence);
    }
  }
  return completions;
}

function requestFor(ensemble: Ensemble, { prompt }: Item, alpha: number) {
  const { models, eosIds, decode, unusedIds } = ensemble;
  const prompts = ensemble.encodePrompts({
    kind: "chat",
    messages: [{ role: "user", content: prompt }],
  });
  const sampler = new Sampler(sampling({ temperature: 0 }), prompts.base, unusedIds);
  const output = new Output({ decode, stop: [], eosIds, maxTokens: COMPLETION_TOKENS_MAX });
  return { models, prompts, alpha, sampler, output, resume: [] };
}
