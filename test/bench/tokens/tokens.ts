/**
 * Measures what one token costs besides the models: combining, guards, sampling, log-probabilities, trace. For large
 * vocabularies and for distributions that are hard to cut. Prints milliseconds of CPU time, the mean: the clock has steps of 4 ms.
 *
 *     npm run bench:tokens -- --vocab 262144 --json results.json
 */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { GuardedCombiner, type GuardOptions } from "../../../worker/engine/decode/guards.ts";
import { Sampler, type Sampling } from "../../../worker/engine/decode/sampler.ts";
import { TokenAnalyzer } from "../../../worker/engine/decode/token-analysis.ts";

const options = new Command()
  .option("--vocab <sizes...>", "sizes of the vocabulary", ["131072", "262144"])
  .option("--runs <n>", "tokens of each measurement", "50")
  .option("--json <file>", "writes the results to a file")
  .parse()
  .opts<{ vocab: string[]; runs: string; json?: string }>();

/** Logits by token id; the models' differ by a phase. */
const DISTRIBUTIONS: Readonly<Record<string, (id: number, phase: number) => number>> = {
  peaked: (id, phase) => 12 * Math.sin((id + phase) ** 2) ** 9,
  flat: (id, phase) => Math.sin(id * 7 + phase) / 10,
  rising: (id, phase) => id / 20_000 + Math.sin(id + phase) / 100,
  equal: () => 1,
};

interface Case {
  readonly guards?: GuardOptions;
  readonly sampling?: Partial<Sampling>;
  readonly logprobs?: number;
  readonly trace?: boolean;
}

const CASES: Readonly<Record<string, Case>> = {
  greedy: {},
  "temperature 1": { sampling: { temperature: 1 } },
  "top_k 50": { sampling: { temperature: 1, topK: 50 } },
  "top_p 0.9": { sampling: { temperature: 1, topP: 0.9 } },
  "min_p 0.1": { sampling: { temperature: 1, minP: 0.1 } },
  "base_nucleus 0.9": { guards: { baseNucleus: 0.9 } },
  "kl_budget 0.001": { guards: { klBudget: 0.001 } },
  "logprobs 20": { logprobs: 20 },
  trace: { trace: true },
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

const runs = Number(options.runs);
const results: Record<string, Record<string, Record<string, number>>> = {};
for (const size of options.vocab.map(Number)) {
  const columns = Object.keys(DISTRIBUTIONS);
  console.log(
    `\n${`${size} tokens`.padEnd(32)}${columns.map((name) => name.padStart(9)).join("")}`,
  );
  const table = (results[size] = {} as Record<string, Record<string, number>>);
  for (const [name, one] of Object.entries(CASES)) {
    const row = (table[name] = {} as Record<string, number>);
    for (const distribution of columns) row[distribution] = measure(one, distribution, size);
    const cells = Object.values(row).map((ms) => ms.toFixed(2).padStart(9));
    console.log(`${name.padEnd(32)}${cells.join("")}`);
  }
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);

/** Milliseconds of one token: CPU time of the thread, which other processes change little. */
function measure(
  { guards = {}, sampling = {}, logprobs, trace = false }: Case,
  distribution: string,
  size: number,
): number {
  const logitsOf = (phase: number) =>
    Float32Array.from({ length: size }, (_, id) => DISTRIBUTIONS[distribution]!(id, phase));
  const [base, expert, antiexpert] = [logitsOf(0), logitsOf(1), logitsOf(2)];
  const combiner = new GuardedCombiner(guards, size);
  const sampler = new Sampler({ ...PLAIN, ...sampling }, []);
  const isAnalyzed = logprobs !== undefined || trace;
  const analyzer = new TokenAnalyzer({ logprobs: logprobs ?? null, trace });
  const [steered, scratch] = [new Float32Array(size), new Float32Array(size)];
  const sample = (logits: Float32Array) => {
    scratch.set(logits);
    return sampler.sample(scratch);
  };
  const runToken = () => {
    const alpha = combiner.combine(steered, base, expert, antiexpert, 1);
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
