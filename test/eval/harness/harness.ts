/**
 * `npm run eval:harness`: lm-evaluation-harness, unmodified, scores the demo base through `/v1/completions` and with Hugging Face
 * transformers, and the two are compared request by request; so are the scores of the steered model and those of `/v1/score`.
 * It needs Python 3.10 or newer, and installs 2 GB of packages once. Nothing but the package registry is called.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command } from "commander";
import { runCommand, startApi } from "../../support/command.ts";
import { installPythonTools } from "../../../infra/stack/python-tools.ts";
import { Api } from "./api.ts";
import { compareRuns, compareWithScores, type Comparison } from "./compare.ts";
import { BASE_FOLDER, TASK_NAMES, writeInputs, writeManifest } from "./inputs.ts";
import { runLmEval, runPython, type LmEvalRun } from "./lm-eval.ts";
import { measureTable, printTable, type TableRow } from "./table.ts";

const PACKAGES = ["lm_eval[api]==0.4.13", "transformers==5.24.0", "torch==2.13.0"].concat([
  "accelerate",
  "peft",
  "onnx",
]);
/** Nats. The API rounds to four decimals. */
const PER_TOKEN_MAX = 1e-3;

const options = new Command("npm run eval:harness --")
  .description("run lm-evaluation-harness against the demo models and compare with transformers")
  .option("--json <file>", "also write the report to this file")
  .option("--questions <number>", "how many questions each task has", Number, 24)
  .option(
    "--table <number>",
    "also measure the systems of `npm run eval`, with this many questions of each task",
    Number,
    0,
  )
  .parse()
  .opts<{ json?: string; questions: number; table: number }>();

await runCommand(evaluate);

/** @returns 1 if a difference is too large */
async function evaluate(folder: string): Promise<number> {
  const programs = installPythonTools("lm-eval-0.4.13", PACKAGES);
  const transformers = join(folder, "base");
  await runPython(programs, ["hf_model.py", BASE_FOLDER, transformers]);
  const inputs = writeInputs(folder, options.questions, options.table);
  const { url, key } = await startApi(writeManifest(folder, options.table > 0), "harness");
  const api = new Api(url, key);
  const local = (model: string, args: string) =>
    `model=${model},base_url=${api.url}/v1/completions,max_length=1024,${args}`;
  const tokenizer = `tokenizer=${transformers}`;
  const run = (name: string, model: string, args: string, batch: number, tasks = TASK_NAMES) =>
    runLmEval(programs, { name, model, args, batch, tasks, inputs, folder, apiKey: api.key });
  // The API client leaves room for a generated token, and one more in rolling windows.
  const hfArgs = `pretrained=${transformers},dtype=float32,max_length=1022`;
  const hf = await run("transformers", "hf", hfArgs, 8);
  const base = (args: string) => local("base", args);
  const completions = "local-completions";
  const tokens = await run("token ids", completions, base(tokenizer), 64);
  const texts = await run("texts", completions, base(`${tokenizer},tokenized_requests=False`), 16);
  const remoteArgs = `tokenizer_backend=remote,auth_token=${api.key}`;
  const remote = await run("remote tokenizer", completions, base(remoteArgs), 64);
  const steered = await run("steered", completions, local("steered", tokenizer), 64);

  const perToken = await runPython(programs, ["per_token.py", transformers, api.url, api.key]);
  const comparisons = [
    JSON.parse(perToken) as Comparison,
    ...[tokens, texts, remote].map((other) => compareRuns(hf, other)),
    await compareWithScores(api, "steered", steered),
  ];
  const table =
    options.table === 0
      ? []
      : await measureTable((model, task) =>
          run(`${model}, ${task}`, completions, local(model, tokenizer), 64, [task]),
        );
  report([hf, tokens, texts, remote, steered], comparisons, table);
  const isFine = ({ maxDifference, differingTexts }: Comparison) =>
    maxDifference <= PER_TOKEN_MAX && differingTexts === 0;
  return comparisons.every(isFine) ? 0 : 1;
}

/** A worker that serves the demo base alone and steered, and the edge. */
function report(
  runs: readonly LmEvalRun[],
  comparisons: readonly Comparison[],
  table: readonly TableRow[],
): void {
  for (const { name, seconds, metrics } of runs) {
    console.log(`\n${name} (${seconds.toFixed(0)} s)`);
    console.table(metrics);
  }
  console.log(`\nLargest difference per token in nats; ${PER_TOKEN_MAX} is allowed`);
  console.table(comparisons);
  printTable(table);
  if (!options.json) return;
  const content = { perTokenMax: PER_TOKEN_MAX, comparisons, table, runs: runs.map(summary) };
  writeFileSync(options.json, JSON.stringify(content, null, 2));
  console.log(`\nwritten to ${resolve(options.json)}`);
}

function summary({ name, seconds, metrics }: LmEvalRun) {
  return { name, seconds, metrics };
}
