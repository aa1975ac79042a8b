/**
 * `npm run eval`: does proxy-tuning work on the demo family? Every number comes out of the worker's own loop:
 * base alone, small expert alone, proxy-tuned at the alpha chosen on the dev split, and the directly tuned base.
 */
import { writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { loadEnsembles } from "../../worker/model/ensemble.ts";
import { readManifest, type EnsembleEntry } from "../../worker/model/manifest.ts";
import { complete } from "./complete.ts";
import { bootstrap, percent, wilson, type Interval } from "./statistics.ts";
import { printReport } from "./report.ts";
import { loadItems, mark, TASKS, type Item, type Marks, type Task } from "./task.ts";

const MANIFEST = fileURLToPath(new URL("../../infra/models/ensembles.json", import.meta.url));
const ALPHAS = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5];

export interface TaskResult {
  readonly task: Task;
  readonly items: number;
  /** Exact match in percent, and its 95% interval. */
  readonly base: number;
  readonly expert: number;
  readonly proxy: number;
  readonly tuned: number;
  /** Chosen on the dev split, see `strongestAsGood`. */
  readonly alpha: number;
  /** (proxy - base) / (tuned - base), in percent. */
  readonly gapClosed: number;
  /** Rude answers of the proxy-tuned ensemble, in percent. */
  readonly rude: number;
  readonly intervals: Readonly<
    Record<"base" | "expert" | "proxy" | "tuned" | "gapClosed" | "proxyMinusExpert", Interval>
  >;
  readonly baseRude: number;
  readonly baseContains: number;
  readonly stops: Readonly<Record<"base" | "expert" | "proxy" | "tuned", number>>;
  /** Exact match on the dev split by alpha. */
  readonly sweep: readonly { readonly alpha: number; readonly dev: number }[];
}

const options = new Command("eval")
  .description("Evaluates the demo models through trimtab's engine")
  .option("--json <file>", "write figures and settings to a file")
  .option("--limit <n>", "items per split, for a quick look", Number)
  .addOption(
    new Option("--dtype <dtype>", "weights of base, expert and antiexpert")
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
  const run = async (system: string, items: readonly Item[], alpha: number): Promise<Marks> => {
    process.stderr.write(
      `${task}: ${system}${alpha ? ` at alpha ${alpha}` : ""}, ${items.length} items\n`,
    );
    return mark(task, items, await complete(ensembles.get(system)!, items, alpha));
  };
  const dev = loadItems(task, "dev").slice(0, options.limit);
  const sweep: { alpha: number; right: readonly boolean[] }[] = [];
  for (const alpha of ALPHAS) sweep.push({ alpha, right: (await run("proxy", dev, alpha)).right });
  const alpha = strongestAsGood(sweep);
  const test = loadItems(task, "test").slice(0, options.limit);
  return summarize(task, alpha, sweep, {
    base: await run("proxy", test, 0),
    expert: await run("expert", test, 0),
    proxy: await run("proxy", test, alpha),
    tuned: await run("tuned", test, 0),
  });
}

/**
 * The strongest steering whose dev score lies within the 95% interval of the best: where the score cannot tell,
 * behaviour decides, and what is left of the base's own habits shrinks with alpha.
 */
function strongestAsGood(sweep: readonly { alpha: number; right: readonly boolean[] }[]): number {
  const best = sweep.reduce((a, b) => (percent(b.right) > percent(a.right) ? b : a));
  const [low] = wilson(best.right);
  const asGood = sweep.filter(({ right }) => percent(right) >= low);
  return Math.max(...asGood.map(({ alpha }) => alpha));
}

/** The served ensemble, and the single models to compare with, each as the base of an ensemble run at alpha 0. */
async function loadSystems(task: Task) {
  const entry = readManifest(MANIFEST).ensembles.find(({ id }) => id === task)!;
  const at = (model: EnsembleEntry["base"]) => ({ ...model, dtype: options.dtype });
  const proxy = {
    ...entry,
    id: "proxy",
    base: at(entry.base),
    expert: at(entry.expert),
    antiexpert: at(entry.antiexpert),
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
  marks: Record<"base" | "expert" | "proxy" | "tuned", Marks>,
): TaskResult {
  const { base, expert, proxy, tuned } = marks;
  const score = (of: Marks) => percent(of.right);
  const own = (of: Marks) => wilson(of.right);
  const gap = (b: number, p: number, t: number) => (100 * (p - b)) / (t - b);
  return {
    task,
    items: base.right.length,
    base: score(base),
    expert: score(expert),
    proxy: score(proxy),
    tuned: score(tuned),
    alpha,
    gapClosed: gap(score(base), score(proxy), score(tuned)),
    rude: percent(proxy.rude),
    intervals: {
      base: own(base),
      expert: own(expert),
      proxy: own(proxy),
      tuned: own(tuned),
      gapClosed: bootstrap([base.right, proxy.right, tuned.right], ([b, p, t]) => gap(b!, p!, t!)),
      proxyMinusExpert: bootstrap([proxy.right, expert.right], ([p, e]) => p! - e!),
    },
    baseRude: percent(base.rude),
    baseContains: percent(base.contains),
    stops: {
      base: percent(base.stops),
      expert: percent(expert.stops),
      proxy: percent(proxy.stops),
      tuned: percent(tuned.stops),
    },
    sweep: sweep.map((at) => ({ alpha: at.alpha, dev: percent(at.right) })),
  };
}
