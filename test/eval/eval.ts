/**
 * `npm run eval`: accuracy of proxy-tuning with the demo family. All systems run in the worker's decode loop: the base alone,
 * the small expert alone, the base proxy-tuned with the alpha chosen on the dev split, and the base tuned directly.
 */
import { writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { loadEnsembles } from "../../worker/engine/model/ensemble.ts";
import { readManifest, type EnsembleEntry } from "../../worker/engine/model/manifest.ts";
import { complete } from "./complete.ts";
import { bootstrapInterval, percentTrue, wilsonInterval, type Interval } from "./statistics.ts";
import { printReport } from "./report.ts";
import {
  loadItems,
  scoreCompletions,
  TASKS,
  type Item,
  type ItemScores,
  type Task,
} from "./task.ts";

const MANIFEST = fileURLToPath(new URL("../../infra/models/ensembles.json", import.meta.url));
/** Tried on the dev split. */
const ALPHAS = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5];

export interface TaskResult {
  readonly task: Task;
  readonly items: number;
  /** Exact matches of each system, in percent. */
  readonly base: number;
  readonly expert: number;
  readonly proxy: number;
  readonly tuned: number;
  /** Chosen on the dev split, see `chooseAlpha`. */
  readonly alpha: number;
  /** (proxy - base) / (tuned - base), in percent. */
  readonly gapClosed: number;
  /** Rude answers of the proxy-tuned ensemble, in percent. */
  readonly rude: number;
  /** 95% intervals; `proxyMinusExpert` in percentage points. */
  readonly intervals: Readonly<
    Record<"base" | "expert" | "proxy" | "tuned" | "gapClosed" | "proxyMinusExpert", Interval>
  >;
  /** Rude answers of the base, in percent. */
  readonly baseRude: number;
  /** Completions of the base that contain the right answer, in percent. */
  readonly baseContains: number;
  /** Completions that end with the end-of-sequence token, in percent. */
  readonly stops: Readonly<Record<"base" | "expert" | "proxy" | "tuned", number>>;
  /** Exact matches on the dev split for each alpha, in percent. */
  readonly sweep: readonly { readonly alpha: number; readonly dev: number }[];
}

const options = new Command("npm run eval --")
  .description("measure the accuracy of the demo models with trimtab's decode loop")
  .option("--json <file>", "also write results and settings to this file")
  .option("--limit <number>", "use only the first items of each split", Number)
  .addOption(
    new Option("--dtype <dtype>", "weight format of base, expert and antiexpert")
      .choices(["fp32", "int8"])
      .default("fp32"),
  )
  .parse()
  .opts<{ json?: string; limit?: number; dtype: "fp32" | "int8" }>();

const startedMs = Date.now();
const results: TaskResult[] = [];
for (const task of TASKS) results.push(await evaluate(task));
printReport(results);
if (options.json) {
  const settings = { dtype: options.dtype, limit: options.limit ?? null, tunedDtype: "int8" };
  const seconds = Math.round((Date.now() - startedMs) / 1000);
  writeFileSync(options.json, JSON.stringify({ settings, seconds, tasks: results }, null, 2));
  console.log(`\nwritten to ${resolve(options.json)}`);
}

async function evaluate(task: Task): Promise<TaskResult> {
  const ensembles = await loadSystems(task);
  const run = async (
    system: string,
    items: readonly Item[],
    alpha: number,
  ): Promise<ItemScores> => {
    process.stderr.write(
      `${task}: ${system}${alpha ? ` at alpha ${alpha}` : ""}, ${items.length} items\n`,
    );
    return scoreCompletions(task, items, await complete(ensembles.get(system)!, items, alpha));
  };
  const dev = loadItems(task, "dev").slice(0, options.limit);
  const sweep: { alpha: number; right: readonly boolean[] }[] = [];
  for (const alpha of ALPHAS) sweep.push({ alpha, right: (await run("proxy", dev, alpha)).right });
  const alpha = chooseAlpha(sweep);
  const test = loadItems(task, "test").slice(0, options.limit);
  return summarize(task, alpha, sweep, {
    base: await run("proxy", test, 0),
    expert: await run("expert", test, 0),
    proxy: await run("proxy", test, alpha),
    tuned: await run("tuned", test, 0),
  });
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
async function loadSystems(task: Task) {
  const entry = readManifest(MANIFEST).ensembles.find(({ id }) => id === task)!;
  const withDtype = (model: EnsembleEntry["base"]) => ({ ...model, dtype: options.dtype });
  const proxy = {
    ...entry,
    id: "proxy",
    base: withDtype(entry.base),
    expert: withDtype(entry.expert),
    antiexpert: withDtype(entry.antiexpert),
  };
  const tuned = { ...entry.base, path: tunedFolder(task), dtype: "int8" as const };
  return loadEnsembles(
    {
      ensembles: [
        proxy,
        { ...proxy, id: "expert", base: proxy.expert },
        { ...proxy, id: "tuned", base: tuned },
      ],
    },
    { intraOpThreads: 0 },
  );
}

function tunedFolder(task: Task): string {
  return resolve(dirname(MANIFEST), task === "atlas-qa" ? "atlas-tuned" : "gsm-tuned");
}

function summarize(
  task: Task,
  alpha: number,
  sweep: readonly { alpha: number; right: readonly boolean[] }[],
  scores: Record<"base" | "expert" | "proxy" | "tuned", ItemScores>,
): TaskResult {
  const { base, expert, proxy, tuned } = scores;
  const exact = ({ right }: ItemScores) => percentTrue(right);
  const interval = ({ right }: ItemScores) => wilsonInterval(right);
  const gapClosed = (b: number, p: number, t: number) => (100 * (p - b)) / (t - b);
  return {
    task,
    items: base.right.length,
    base: exact(base),
    expert: exact(expert),
    proxy: exact(proxy),
    tuned: exact(tuned),
    alpha,
    gapClosed: gapClosed(exact(base), exact(proxy), exact(tuned)),
    rude: percentTrue(proxy.rude),
    intervals: {
      base: interval(base),
      expert: interval(expert),
      proxy: interval(proxy),
      tuned: interval(tuned),
      gapClosed: bootstrapInterval([base.right, proxy.right, tuned.right], ([b, p, t]) =>
        gapClosed(b!, p!, t!),
      ),
      proxyMinusExpert: bootstrapInterval([proxy.right, expert.right], ([p, e]) => p! - e!),
    },
    baseRude: percentTrue(base.rude),
    baseContains: percentTrue(base.containsAnswer),
    stops: {
      base: percentTrue(base.stopped),
      expert: percentTrue(expert.stopped),
      proxy: percentTrue(proxy.stopped),
      tuned: percentTrue(tuned.stopped),
    },
    sweep: sweep.map(({ alpha, right }) => ({ alpha, dev: percentTrue(right) })),
  };
}
