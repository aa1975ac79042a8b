/**
 * The cost of one token besides the models: combining, guards, a mask, sampling, log-probabilities, trace.
 */
import { compileGrammar } from "../../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { GuardedCombiner, type GuardOptions } from "../../../worker/engine/decode/guards.ts";
import { maskedProbability } from "../../../worker/engine/decode/masked-probability.ts";
import { Sampler, type Constraint, type Sampling } from "../../../worker/engine/decode/sampler.ts";
import { TokenAnalyzer } from "../../../worker/engine/decode/token-analysis.ts";
import { GrammarConstraint } from "../../../worker/engine/grammar/constraint.ts";
import { Matcher } from "../../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../../worker/engine/grammar/token-trie.ts";
import { vocabularyOf } from "../schemas/vocabulary.ts";

/** Logits by token id; the models' differ by a phase. */
export const DISTRIBUTIONS: Readonly<Record<string, (id: number, phase: number) => number>> = {
  peaked: (id, phase) => 12 * Math.sin((id + phase) ** 2) ** 9,
  flat: (id, phase) => Math.sin(id * 7 + phase) / 10,
  rising: (id, phase) => id / 20_000 + Math.sin(id + phase) / 100,
  equal: () => 1,
};

export interface Case {
  readonly guards?: GuardOptions;
  readonly sampling?: Partial<Sampling>;
  readonly logprobs?: number;
  readonly trace?: boolean;
  /** Whether only the tokens of a string in JSON are allowed. */
  readonly mask?: boolean;
}

export const CASES: Readonly<Record<string, Case>> = {
  greedy: {},
  "temperature 1": { sampling: { temperature: 1 } },
  "top_k 50": { sampling: { temperature: 1, topK: 50 } },
  "top_p 0.9": { sampling: { temperature: 1, topP: 0.9 } },
  "min_p 0.1": { sampling: { temperature: 1, minP: 0.1 } },
  "base_nucleus 0.9": { guards: { baseNucleus: 0.9 } },
  "kl_budget 0.001": { guards: { klBudget: 0.001 } },
  "logprobs 20": { logprobs: 20 },
  trace: { trace: true },
  "JSON mask": { mask: true },
  "top_p, logprobs 20, trace": {
    sampling: { temperature: 1, topP: 0.9 },
    logprobs: 20,
    trace: true,
  },
  "base_nucleus, kl_budget, top_p": {
    guards: { baseNucleus: 0.9, klBudget: 0.001 },
    sampling: { temperature: 1, topP: 0.9 },
  },
};

const PLAIN: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};

/** Milliseconds of one token: CPU time of the thread, which other processes change little. */
export function measureToken(
  { guards = {}, sampling = {}, logprobs, trace = false, mask = false }: Case,
  distribution: string,
  { size, runs }: { size: number; runs: number },
): number {
  const logitsOf = (phase: number) =>
    Float32Array.from({ length: size }, (_, id) => DISTRIBUTIONS[distribution]!(id, phase));
  const [base, expert, antiexpert] = [logitsOf(0), logitsOf(1), logitsOf(2)];
  const combiner = new GuardedCombiner(guards, size);
  const constraint = mask ? stringConstraint(size) : null;
  const sampler = new Sampler({ ...PLAIN, ...sampling }, [], [], constraint);
  const isAnalyzed = logprobs !== undefined || trace;
  const analyzer = new TokenAnalyzer({ logprobs: logprobs ?? null, trace });
  const [steered, scratch, exps] = [1, 2, 3].map(() => new Float32Array(size)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const sample = (logits: Float32Array) => {
    scratch.set(logits);
    return sampler.sample(scratch);
  };
  const runToken = () => {
    const alpha = combiner.combine(steered, base, expert, antiexpert, 1);
    if (constraint) {
      // As Sequence does: the probability of the masked tokens is told with each token.
      scratch.set(steered);
      constraint.mask(scratch);
      maskedProbability(steered, scratch, exps);
    }
    const token = sample(steered);
    if (isAnalyzed) {
      const baseToken = trace ? sample(base) : token;
      analyzer.analyze({ base, expert, antiexpert, steered, alpha, token, baseToken });
    }
    sampler.accept(token);
  };
  // V8 compiles the kernels a second time, for speed, after some calls.
  for (let i = 0; i < 20; i++) runToken();
  const before = process.threadCpuUsage();
  for (let i = 0; i < runs; i++) runToken();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000 / runs;
}

const constraints = new Map<number, Constraint>();

/** Stays within a string of a JSON object. Its mask is computed once, as for the positions that most tokens share. */
function stringConstraint(size: number): Constraint {
  const known = constraints.get(size);
  if (known) return known;
  const vocabulary = vocabularyOf([], size);
  const grammar = compileResponseFormat({ type: "json_object" })!;
  const matcher = new Matcher(compileGrammar(grammar), new TokenTrie(vocabulary));
  const constraint = new GrammarConstraint(matcher, new Set([size - 1]));
  // The first tokens of the vocabulary are the bytes.
  for (const byte of Buffer.from('{"a": "')) constraint.accept(byte);
  const fixed: Constraint = {
    isComplete: false,
    mask: (logits) => constraint.mask(logits),
    accept: () => {},
    rewind: () => {},
  };
  constraints.set(size, fixed);
  return fixed;
}
