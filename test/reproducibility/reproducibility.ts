/**
 * `npm run golden:jobs`: seeded jobs of a family of models, each alone, alone with drafts, in company and taken over. Their tokens
 * must be the same; otherwise the exit code is 1.
 */
import { Command, Option } from "commander";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { family, FAMILY_NAMES, type Family, type FamilyName } from "../bench/models/family.ts";
import { benchPrompt } from "../bench/prompts.ts";
import { compareWays, seededJobs, WAYS, type Differences } from "./jobs.ts";

/** Of the demo family's tokenizer. */
const VOCAB_SIZE = 2048;
/** Jobs between two lines about the progress. */
const BLOCK_JOBS = 50;

const options = new Command("npm run golden:jobs --")
  .description("prove that jobs get the same tokens alone, drafted, in company and taken over")
  .option("--jobs <number>", "number of jobs", Number, 1000)
  .option("--tokens <number>", "tokens of each job", Number, 40)
  .option("--prompt <number>", "tokens of the longest prompt", Number, 150)
  .option("--width <number>", "jobs at once in company", Number, 8)
  .option("--seed <number>", "seed of prompts and options", Number, 1)
  .addOption(
    new Option("--dtype <dtype>", "weight format").choices(["fp32", "int8"]).default("int8"),
  )
  .addOption(new Option("--family <name>", "models").choices([...FAMILY_NAMES]).default("demo"))
  .parse()
  .opts<{
    jobs: number;
    tokens: number;
    prompt: number;
    width: number;
    seed: number;
    dtype: "fp32" | "int8";
    family: FamilyName;
  }>();

const models = await loadModels(family(options.family));
const jobs = seededJobs(options.jobs, {
  seed: options.seed,
  maxTokens: options.tokens,
  promptOf: (index) => benchPrompt(options.prompt, index),
});
const counts = new Map(WAYS.map((way) => [way, 0]));
for (let start = 0; start < jobs.length; start += BLOCK_JOBS) {
  const block = jobs.slice(start, start + BLOCK_JOBS);
  const differences = await compareWays(models, block, options.width);
  for (const way of WAYS) counts.set(way, counts.get(way)! + differences[way].length);
  printDifferences(differences, start);
  process.stderr.write(`${start + block.length} of ${jobs.length} jobs\n`);
}
const { dtype, family: name, tokens } = options;
console.log(`${name}, ${dtype}: ${jobs.length} jobs of ${tokens} tokens; other tokens than alone:`);
for (const [way, count] of counts) console.log(`  ${way.padEnd(12)} ${count}`);
if ([...counts.values()].some((count) => count > 0)) process.exitCode = 1;

async function loadModels(folders: Family): Promise<Models> {
  // Threads of several sessions would wait for each other on a busy machine.
  const load = (folder: string) => loadDecoder(folder, { dtype: options.dtype, intraOpThreads: 1 });
  return {
    base: await load(folders.base),
    expert: await load(folders.expert),
    antiexpert: await load(folders.antiexpert),
    vocabSize: VOCAB_SIZE,
  };
}

function printDifferences(differences: Differences, start: number): void {
  for (const way of WAYS) {
    for (const index of differences[way]) console.log(`job ${start + index} differs ${way}`);
  }
}
