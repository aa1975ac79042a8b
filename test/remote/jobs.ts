/** Seeded jobs with every option that steering a remote base must keep exact. */
import { compileGrammar } from "../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../shared/grammar/format.ts";
import type { Decoder } from "../../worker/engine/decoder/decoder.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import type { Constraint } from "../../worker/engine/decode/sampler.ts";
import { GrammarConstraint } from "../../worker/engine/grammar/constraint.ts";
import { Matcher } from "../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../worker/engine/grammar/token-trie.ts";
import { benchPrompt } from "../bench/prompts.ts";
import { DEMO_EOS, DEMO_VOCAB, demoTokenizer, type DemoJob } from "../support/base-server/demo.ts";

interface JobOption extends Omit<DemoJob, "prompt"> {
  readonly name: string;
  /** Weights of the pair and of a second one with another expert. */
  readonly pairWeights?: readonly [number, number];
}

const FORMAT = { type: "regex", pattern: "[a-z ]{3,20}#### [0-9]{1,3}" } as const;
const TRIE = new TokenTrie(
  Array.from({ length: DEMO_VOCAB }, (_, id) => demoTokenizer.tokenBytes(id)),
);
const ANSWER = new Matcher(compileGrammar(compileResponseFormat(FORMAT)!), TRIE);
const constrain = (): Constraint => new GrammarConstraint(ANSWER, DEMO_EOS);

export const JOB_OPTIONS: readonly JobOption[] = [
  { name: "greedy", sampling: { temperature: 0 } },
  { name: "greedy, alpha 0.6", sampling: { temperature: 0 }, changes: { alpha: 0.6 } },
  { name: "temperature 0.7", sampling: { temperature: 0.7 } },
  { name: "temperature 1" },
  { name: "temperature 1.4", sampling: { temperature: 1.4 } },
  { name: "top-k 40", sampling: { topK: 40 } },
  { name: "top-p 0.9", sampling: { topP: 0.9 } },
  { name: "min-p 0.05", sampling: { minP: 0.05 } },
  { name: "top-k, top-p, min-p", sampling: { temperature: 0.8, topK: 50, topP: 0.95, minP: 0.02 } },
  { name: "presence, frequency", sampling: { presencePenalty: 0.5, frequencyPenalty: 0.3 } },
  { name: "repetition", sampling: { repetitionPenalty: 1.2, temperature: 0.7 } },
  { name: "repetition, top-p", sampling: { repetitionPenalty: 1.1, topP: 0.9 } },
  { name: "logit bias", sampling: { logitBias: [[300, 4] as const, [262, -100] as const] } },
  { name: "schedule", changes: { alpha: 1.2, schedule: [[0, 1.2] as const, [10, 0.2] as const] } },
  { name: "base nucleus", changes: { guards: { baseNucleus: 0.9 } } },
  { name: "nucleus and KL", changes: { guards: { baseNucleus: 0.8, klBudget: 0.5 } } },
  { name: "KL budget", changes: { guards: { klBudget: 0.5 } } },
  { name: "fallback", changes: { guards: { fallback: 0.2 } } },
  { name: "two pairs", pairWeights: [0.7, 0.4], sampling: { temperature: 0.7 } },
  { name: "two pairs, greedy", pairWeights: [0.5, 1], sampling: { temperature: 0 } },
  {
    name: "two pairs, base nucleus",
    pairWeights: [1, 1],
    changes: { guards: { baseNucleus: 0.9 } },
  },
  { name: "negative alpha", changes: { alpha: -0.5 }, sampling: { temperature: 0.8 } },
  { name: "alpha 0", changes: { alpha: 0 } },
  { name: "response format, top-p", sampling: { topP: 0.9 }, constrain },
  { name: "response format", constrain },
  { name: "response format, greedy", sampling: { temperature: 0 }, constrain },
];

/**
 * The options and the prompt follow from the number.
 * @param pair of the first weight
 * @param other expert of the second pair
 */
export function goldenJob(
  number: number,
  maxTokens: number,
  { expert, antiexpert }: Pick<Models, "expert" | "antiexpert">,
  other: Decoder,
): DemoJob & JobOption {
  const option = JOB_OPTIONS[number % JOB_OPTIONS.length]!;
  const sampling = { seed: number, ...option.sampling };
  const prompt = benchPrompt(60, number);
  const prompts = { expert: prompt, antiexpert: prompt };
  const pairs = option.pairWeights?.map((weight, i) => ({
    weight,
    models: { expert: i === 0 ? expert : other, antiexpert },
    prompts,
  }));
  // Tokens that cannot be proven are counted, and not refused.
  const changes = { ...option.changes, baseErrorMax: 1, ...(pairs && { pairs }) };
  return { ...option, changes, sampling, maxTokens, prompt };
}
