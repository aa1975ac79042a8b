/** Answers of one ensemble at one alpha, greedy, through the worker's own loop. */
import { Output } from "../../worker/decode/output.ts";
import { Sampler } from "../../worker/decode/sampler.ts";
import { generate } from "../../worker/generate.ts";
import type { Ensemble } from "../../worker/model/ensemble.ts";
import { COMPLETION_TOKENS_MAX, type Completion, type Item } from "./task.ts";

const GREEDY = {
  temperature: 0,
  seed: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};

export async function complete(
  ensemble: Ensemble,
  items: readonly Item[],
  alpha: number,
): Promise<Completion[]> {
  const completions: Completion[] = [];
  for (const { prompt } of items) {
    const prompts = ensemble.encode({
      kind: "chat",
      messages: [{ role: "user", content: prompt }],
    });
    const output = new Output({
      decode: ensemble.decode,
      stop: [],
      eosIds: ensemble.eosIds,
      maxTokens: COMPLETION_TOKENS_MAX,
    });
    const sampler = new Sampler(GREEDY, prompts.base, ensemble.unusedIds);
    let text = "";
    const steps = generate({
      models: ensemble.models,
      prompts,
      alpha,
      resume: [],
      sampler,
      output,
    });
    for await (const step of steps) text += step.text;
    completions.push({ text, stopped: output.finish === "stop" });
  }
  return completions;
}
