/**
 * `npm run scorecard`: whether a pair is worth serving, on questions of your own. It is in test/ because it measures with the
 * evaluation's statistics and the worker's own decode loop; nothing that runs in production needs it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { loadEnsembles } from "../../worker/engine/model/load-ensembles.ts";
import { DTYPES, type Dtype } from "../../worker/engine/model/graph-files.ts";
import { isRemote, readManifest, type EnsembleEntry } from "../../worker/engine/model/manifest.ts";
import { measure, measureUnlabelled, type Systems } from "./measure.ts";
import { alphasToTry, DEFAULT_ALPHAS } from "./alphas.ts";
import { createMetric, METRICS, requireAnswers, type MetricName } from "./metrics.ts";
import { scorecardPage, unlabelledPage } from "./page.ts";
import { printScorecard, printUnlabelled } from "./print.ts";
import { readQuestions, split } from "./questions.ts";
import { judgeUnlabelled } from "./verdict.ts";

const DEMO_MANIFEST = fileURLToPath(new URL("../../infra/models/ensembles.json", import.meta.url));
/** Prompts of `--unlabelled`. */
const UNLABELLED_PROMPTS = 200;

interface Options {
  readonly ensemble: string;
  readonly data: string;
  readonly models: string;
  readonly metric: MetricName;
  readonly pattern?: string;
  readonly judge?: string;
  readonly tuned?: string;
  readonly tunedDtype: Dtype;
  readonly control?: string;
  readonly controlMetric?: MetricName;
  readonly alphas?: readonly number[];
  readonly maxTokens: number;
  readonly batchSize: number;
  readonly limit?: number;
  readonly unlabelled?: boolean;
  readonly json?: string;
  readonly html?: string;
}

const options = new Command("npm run scorecard --")
  .description("measure on your own questions whether a pair is worth serving")
  .requiredOption("--ensemble <id>", "an ensemble of the manifest")
  .requiredOption(
    "--data <file>",
    'JSON lines: {"prompt": "…", "answer": "…"}, or several right answers in a list; "text" or "messages" instead of "prompt"',
  )
  .option(
    "--models <file>",
    "the manifest (default: TRIMTAB_MODELS, else the demo models)",
    process.env["TRIMTAB_MODELS"] ?? DEMO_MANIFEST,
  )
  .addOption(
    new Option("--metric <name>", "when an answer is right").choices(METRICS).default("exact"),
  )
  .option("--pattern <regex>", "of regex: its first group is compared with the answer")
  .option(
    "--judge <command>",
    "of judge: reads a line of JSON (prompt, answers, text) for each answer and prints 1 or 0",
  )
  .option("--tuned <folder>", "the base tuned directly, to compare with")
  .addOption(
    new Option("--tuned-dtype <dtype>", "its weight format").choices(DTYPES).default("fp32"),
  )
  .option("--control <file>", "questions that the pair is not for: what does steering break?")
  .addOption(
    new Option("--control-metric <name>", "their metric (default: that of --metric)").choices(
      METRICS,
    ),
  )
  .option(
    "--alphas <list>",
    `tried on the dev split, with that of the manifest (default: those of ${DEFAULT_ALPHAS.join(",")} up to its alphaMax)`,
    toNumbers,
  )
  .option("--max-tokens <number>", "tokens of an answer at most", toCount, 128)
  .option("--batch-size <number>", "answers at the same time", toCount, 16)
  .option("--limit <number>", "use only the first questions", toCount)
  .option(
    "--unlabelled",
    `without answers: what the models' confidence says, from ${UNLABELLED_PROMPTS} prompts`,
  )
  .option("--json <file>", "also write all results to this file")
  .option("--html <file>", "also write a page with plots and answers")
  .addHelpText("after", "\nThe exit code is 1 if the verdict is not to serve the pair.")
  .parse()
  .opts<Options>();

try {
  const verdict = options.unlabelled ? await runUnlabelled() : await runLabelled();
  process.exitCode = verdict.decision === "do not" ? 1 : 0;
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}

async function runLabelled() {
  const questions = readQuestions(options.data).slice(0, options.limit);
  requireAnswers(options.metric, questions);
  const metric = createMetric(options.metric, options);
  const control = options.control === undefined ? null : readControl(options.control);
  const entry = readEntry();
  const alphas = alphasToTry(options.alphas, entry);
  const scorecard = await measure(await loadSystems(entry), split(questions), control, {
    ...options,
    alphas,
    metric,
    log,
  });
  printScorecard(scorecard);
  write({ settings: settings(), ...scorecard }, () => scorecardPage(scorecard, settings()));
  return scorecard.verdict;
}

function readControl(file: string) {
  const name = options.controlMetric ?? options.metric;
  const questions = readQuestions(file).slice(0, options.limit);
  requireAnswers(name, questions);
  return { questions, metric: createMetric(name, options) };
}

async function runUnlabelled() {
  const questions = readQuestions(options.data).slice(0, options.limit ?? UNLABELLED_PROMPTS);
  const systems = await loadSystems(readEntry());
  const report = await measureUnlabelled(systems, questions, { ...options, log });
  const verdict = judgeUnlabelled(report);
  printUnlabelled(report, verdict);
  write({ settings: settings(), ...report, verdict }, () =>
    unlabelledPage(report, verdict, settings()),
  );
  return verdict;
}

function readEntry(): EnsembleEntry {
  const { ensembles } = readManifest(resolve(options.models));
  const entry = ensembles.find(({ id }) => id === options.ensemble);
  if (!entry) throw new Error(`${options.models} has no ensemble ${options.ensemble}`);
  return entry;
}

/** The ensemble, and its expert and the tuned base as bases of ensembles that run at alpha 0. */
async function loadSystems(entry: EnsembleEntry): Promise<Systems> {
  log(`loading ${entry.id}`);
  const alone = { ...entry, id: "expert alone", base: entry.expert };
  const systems = [entry, alone, ...(options.tuned === undefined ? [] : [tunedEntry(entry)])];
  const loaded = await loadEnsembles({ ensembles: systems }, { intraOpThreads: 0 });
  return {
    proxy: loaded.get(entry.id)!,
    expert: loaded.get(alone.id)!,
    tuned: loaded.get("tuned") ?? null,
  };
}

function tunedEntry(entry: EnsembleEntry): EnsembleEntry {
  const { file: _, ...like } = isRemote(entry.base) ? entry.expert : entry.base;
  const base = { ...like, path: resolve(options.tuned!), dtype: options.tunedDtype };
  return { ...entry, id: "tuned", base };
}

function settings(): Record<string, string> {
  const { metric, pattern, data, control, maxTokens } = options;
  return {
    data,
    ...(options.unlabelled
      ? {}
      : { metric: pattern === undefined ? metric : `${metric} ${pattern}` }),
    ...(control !== undefined && { control: `${control} (${options.controlMetric ?? metric})` }),
    "tokens of an answer at most": String(maxTokens),
    version: packageVersion(),
  };
}

function packageVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

function write(json: object, page: () => string): void {
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(json, null, 2)}\n`);
  if (options.html !== undefined) writeFileSync(options.html, page());
  for (const file of [options.json, options.html]) {
    if (file !== undefined) log(`written to ${resolve(file)}`);
  }
}

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}

function toNumbers(text: string): number[] {
  const numbers = text.split(",").map(Number);
  if (numbers.every((number) => number >= 0)) return numbers;
  throw new InvalidArgumentError("Expected numbers of at least 0, separated by commas.");
}

function toCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1) return count;
  throw new InvalidArgumentError("Expected a whole number of at least 1.");
}
