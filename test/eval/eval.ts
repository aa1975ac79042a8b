/**
 * `npm run eval`: accuracy of proxy-tuning with the demo family. All systems run in the worker's decode loop: the base alone,
 * the small expert alone, the base proxy-tuned with the alpha chosen on the dev split, and the base tuned directly.
 */
import { existsSync, realpathSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { loadEnsembles } from "../../worker/engine/model/load-ensembles.ts";
import { readManifest, type EnsembleEntry } from "../../worker/engine/model/manifest.ts";
import { complete } from "./complete.ts";
import { bootstrapInterval, percentTrue, wilsonInterval, type Interval } from "./statistics.ts";
import { printReport } from "./report.ts";
import { printSpread } from "./spread.ts";
import {
  loadItems,
  scoreCompletions,
  scoreRecords,
  TASK_MODELS,
  TASKS,
  type Item,
  type ItemScores,
  type Task,
} from "./task.ts";

const MODELS = fileURLToPath(new URL("../../infra/models", import.meta.url));
/** Tried on the dev split. */
const ALPHAS: readonly number[] = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5];

export type SystemName = "base" | "expert" | "proxy" | "proxyAtOne" | "tuned";

/** The directly tuned base is not there for every task. */
type EachSystem<T> = Readonly<Record<Exclude<SystemName, "tuned">, T>> & { readonly tuned?: T };

export interface TaskResult {
  /** Folder of the models. */
  readonly models: string;
  readonly task: Task;
  readonly items: number;
  /** Exact matches of each system, in percent. */
  readonly base: number;
  readonly expert: number;
  readonly proxy: number;
  /** With alpha 1. */
  readonly proxyAtOne: number;
  readonly tuned?: number;
  /** Chosen on the dev split, see `chooseAlpha`. */
  readonly alpha: number;
  /** (proxy - base) / (tuned - base), in percent. */
  readonly gapClosed?: number;
  /** Rude answers of the proxy-tuned ensemble, in percent. */
  readonly rude: number;
  /** 95% intervals; `proxyMinusExpert` in percentage points. */
  readonly intervals: EachSystem<Interval> & {
    readonly gapClosed?: Interval;
    readonly proxyMinusExpert: Interval;
  };
  /** Rude answers of the base, in percent. */
  readonly baseRude: number;
  /** Completions of the base that contain the right answer, in percent. */
  readonly baseContains: number;
  /** Completions that end with the end-of-sequence token, in percent. */
  readonly stops: EachSystem<number>;
  /** Of atlas-records only. */
  readonly records?: EachSystem<ReturnType<typeof scoreRecords>>;
  /** Exact matches on the dev split for each alpha, in percent. */
  readonly sweep: readonly { readonly alpha: number; readonly dev: number }[];
}

const options = new Command("npm run eval --")
  .description("measure the accuracy of the demo models with trimtab's decode loop")
  .option("--json <file>", "also write results and settings to this file")
  .option("--limit <number>", "use only the first items of each split", toNumber)
  .option(
    "--models <folders...>",
    "folders with the models of the family and their ensembles.json; of several, the spread is printed too",
    [MODELS],
  )
  .option(
    "--alphas <numbers...>",
    "tried on the dev split",
    (text, list: readonly number[]) => [...(list === ALPHAS ? [] : list), toNumber(text)],
    ALPHAS,
  )
  .addOption(
    new Option(
      "--tasks <names...>",
      "tasks to measure (default: those of each ensembles.json whose directly tuned base is there)",
    ).choices(TASKS),
  )
  .addOption(
    new Option("--dtype <dtype>", "weight format of base, expert and antiexpert")
      .choices(["fp32", "int8"])
      .default("fp32"),
  )
  .parse()
  .opts<{
    json?: string;
    limit?: number;
    models: readonly string[];
    alphas: readonly number[];
    tasks?: readonly Task[];
    dtype: "fp32" | "int8";
  }>();

const startedMs = Date.now();
/** Scores of models alone, by task and folder: runs of several seeds have the base in common, and it costs the most. */
const aloneScores = new Map<string, Scored>();
const results: TaskResult[] = [];
for (const folder of options.models) {
  const { ensembles } = readManifest(join(folder, "ensembles.json"));
  const tasks =
    options.tasks ??
    TASKS.filter((task) => ensembles.some(({ id }) => id === task) && tunedFolder(folder, task));
  for (const task of tasks) {
    const entry = ensembles.find(({ id }) => id === task) ?? {
      ...ensembles[0]!,
      id: task,
      expert: { ...ensembles[0]!.expert, path: join(folder, TASK_MODELS[task].expert) },
    };
    results.push(await evaluate(folder, task, entry));
    printReport(results.slice(-1));
  }
}
if (options.models.length > 1) printSpread(results);
if (options.json) {
  const settings = { dtype: options.dtype, limit: options.limit ?? null };
  const seconds = Math.round((Date.now() - startedMs) / 1000);
  writeFileSync(options.json, JSON.stringify({ settings, seconds, tasks: results }, null, 2));
  console.log(`\nwritten to ${resolve(options.json)}`);
}

async function evaluate(folder: string, task: Task, entry: EnsembleEntry): Promise<TaskResult> {
  const tuned = tunedFolder(folder, task);
  if (!tuned) {
    process.stderr.write(
      `${task}: no ${TASK_MODELS[task].tuned}, so the base tuned directly is left out (infra/training/seeds.py makes it)\n`,
    );
  } else if (tuned !== join(folder, TASK_MODELS[task].tuned)) {
    process.stderr.write(`${folder} has none of its own: ${tuned}\n`);
  }
  const ensembles = await loadSystems(entry, tuned);
  const run = async (system: string, items: readonly Item[], alpha: number): Promise<Scored> => {
    process.stderr.write(
      `${task}: ${system}${alpha ? ` at alpha ${alpha}` : ""}, ${items.length} items\n`,
    );
    const completions = await complete(ensembles.get(system)!, items, alpha);
    return {
      ...scoreCompletions(task, items, completions),
      ...(task === "atlas-records" && { records: scoreRecords(items, completions) }),
    };
  };
  const dev = loadItems(task, "dev").slice(0, options.limit);
  const sweep: { alpha: number; right: readonly boolean[] }[] = [];
  for (const alpha of options.alphas) {
    sweep.push({ alpha, right: (await run("proxy", dev, alpha)).right });
  }
  const alpha = chooseAlpha(sweep);
  const test = loadItems(task, "test").slice(0, options.limit);
  const proxy = await run("proxy", test, alpha);
  const alone = async (system: string, path: string) => {
    const key = `${task} ${realpathSync(path)}`;
    const scored = aloneScores.get(key) ?? (await run(system, test, 0));
    aloneScores.set(key, scored);
    return scored;
  };
  return summarize({ models: folder, task, alpha }, sweep, {
    base: await alone("proxy", entry.base.path),
    expert: await run("expert", test, 0),
    proxy,
    proxyAtOne: alpha === 1 ? proxy : await run("proxy", test, 1),
    ...(tuned && { tuned: await alone("tuned", tuned) }),
  });
}

/** @returns that of the published models if the folder has none; undefined if neither has one */
function tunedFolder(folder: string, task: Task): string | undefined {
  const folders = [folder, MODELS].map((models) => join(models, TASK_MODELS[task].tuned));
  return folders.find((tuned) => existsSync(tuned));
}

/**
 * The highest alpha whose dev score is within the 95% interval of the best score. Among alphas that the score cannot
 * distinguish, a higher one leaves less of the base's own behaviour.
 */
function chooseAlpha(sweep: readonly { alpha: number; right: readonly boolean[] }[]): number {
  const best = sweep.reduce((a, b) => (percentTrue(b.right) > percentTrue(a.right) ? b : a));
  const [low] = wilsonInterval(best.right);
  const candidates = sweep.filter(({ right }) => percentTrue(right) >= low);
  return Math.max(...candidates.map(({ alpha }) => alpha));
}

/** The ensemble of a task, and the single models to compare with: each as base of an ensemble, to run with alpha 0. */
async function loadSystems(entry: EnsembleEntry, tunedPath: string | undefined) {
  const withDtype = (model: EnsembleEntry["base"]) => ({ ...model, dtype: options.dtype });
  const proxy = {
    ...entry,
    id: "proxy",
    base: withDtype(entry.base),
    expert: withDtype(entry.expert),
    antiexpert: withDtype(entry.antiexpert),
  };
  const ensembles = [proxy, { ...proxy, id: "expert", base: proxy.expert }];
  if (tunedPath) {
    // The published ones are in int8 only.
    const dtype = existsSync(join(tunedPath, "onnx/model.onnx")) ? options.dtype : "int8";
    const base = { ...entry.base, path: resolve(tunedPath), dtype };
    ensembles.push({ ...proxy, id: "tuned", base });
  }
  return loadEnsembles({ ensembles }, { intraOpThreads: 0 });
}

type Scored = ItemScores & { readonly records?: ReturnType<typeof scoreRecords> };

function summarize(
  about: Pick<TaskResult, "models" | "task" | "alpha">,
  sweep: readonly { alpha: number; right: readonly boolean[] }[],
  scores: EachSystem<Scored>,
): TaskResult {
  const { base, expert, proxy, tuned } = scores;
  const each = <T>(of: (scored: Scored) => T): EachSystem<T> => ({
    base: of(base),
    expert: of(expert),
    proxy: of(proxy),
    proxyAtOne: of(scores.proxyAtOne),
    ...(tuned && { tuned: of(tuned) }),
  });
  const exact = each(({ right }) => percentTrue(right));
  const gapClosed = (b: number, p: number, t: number) => (100 * (p - b)) / (t - b);
  return {
    ...about,
    items: base.right.length,
    ...exact,
    ...(exact.tuned !== undefined && {
      gapClosed: gapClosed(exact.base, exact.proxy, exact.tuned),
    }),
    rude: percentTrue(proxy.rude),
    intervals: {
      ...each(({ right }) => wilsonInterval(right)),
      ...(tuned && {
        gapClosed: bootstrapInterval([base.right, proxy.right, tuned.right], ([b, p, t]) =>
          gapClosed(b!, p!, t!),
        ),
      }),
      proxyMinusExpert: bootstrapInterval([proxy.right, expert.right], ([p, e]) => p! - e!),
    },
    baseRude: percentTrue(base.rude),
    baseContains: percentTrue(base.containsAnswer),
    stops: each(({ stopped }) => percentTrue(stopped)),
    ...(base.records && { records: each(({ records }) => records!) }),
    sweep: sweep.map(({ alpha, right }) => ({ alpha, dev: percentTrue(right) })),
  };
}

function toNumber(text: string): number {
  const number = Number(text);
  if (number >= 0) return number;
  throw new InvalidArgumentError("Expected a number of at least 0.");
}
