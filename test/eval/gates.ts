/**
 * `npm run eval:gates`: how much accuracy is left when the shift is applied only where the base is unsure, and how much of the
 * pair's work that saves.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { loadEnsembles } from "../../worker/engine/model/load-ensembles.ts";
import { readManifest } from "../../worker/engine/model/manifest.ts";
import { complete } from "./complete.ts";
import { percentTrue, wilsonInterval, type Interval } from "./statistics.ts";
import { loadItems, DEMO_TASKS, scoreCompletions, type Task } from "./task.ts";

const MANIFEST = fileURLToPath(new URL("../../infra/models/ensembles.json", import.meta.url));
/** Nats; 0 is no gate. */
const MIN_ENTROPIES = [0, 0.03, 0.1, 0.3, 0.6, 1];

interface GateResult {
  readonly task: Task;
  readonly minEntropy: number;
  /** Exact matches and rude answers, in percent. */
  readonly exact: number;
  readonly interval: Interval;
  readonly rude: number;
  /** Answers that end with the end-of-sequence token, in percent. */
  readonly ends: number;
  /** Tokens to which the shift was applied, in percent. */
  readonly shifted: number;
  readonly seconds: number;
}

const options = new Command("npm run eval:gates --")
  .description("measure the accuracy of the demo models with gates of different strictness")
  .option("--json <file>", "also write results and settings to this file")
  .option("--limit <number>", "use only the first items", Number)
  .addOption(
    new Option("--tasks <names...>", "tasks to measure").choices(DEMO_TASKS).default(DEMO_TASKS),
  )
  .parse()
  .opts<{ json?: string; limit?: number; tasks: readonly Task[] }>();

const ensembles = await loadEnsembles(readManifest(MANIFEST), { intraOpThreads: 0 });
const results: GateResult[] = [];
for (const task of options.tasks) {
  const ensemble = ensembles.get(task)!;
  const alpha = ensemble.card.alphaDefault;
  const items = loadItems(task, "test").slice(0, options.limit);
  console.log(`\n${task}, alpha ${alpha}, ${items.length} items`);
  console.log("min_entropy  exact %  95% interval  rude %  ends %  tokens with a shift %  seconds");
  for (const minEntropy of MIN_ENTROPIES) {
    let [tokens, shifted] = [0, 0];
    const startedMs = performance.now();
    const completions = await complete(ensemble, items, alpha, {
      ...(minEntropy > 0 && { gate: { minEntropy } }),
      onEnd: (sequence) => {
        tokens += sequence.tokens.length;
        shifted += sequence.shiftedTokens;
      },
    });
    const { right, rude, stopped } = scoreCompletions(task, items, completions);
    const result: GateResult = {
      task,
      minEntropy,
      exact: percentTrue(right),
      interval: wilsonInterval(right),
      rude: percentTrue(rude),
      ends: percentTrue(stopped),
      shifted: (100 * shifted) / tokens,
      seconds: (performance.now() - startedMs) / 1000,
    };
    results.push(result);
    console.log(
      [
        String(minEntropy).padStart(11),
        result.exact.toFixed(1).padStart(7),
        result.interval.map((value) => value.toFixed(1)).join(" to "),
        result.rude.toFixed(1).padStart(6),
        result.ends.toFixed(1).padStart(6),
        result.shifted.toFixed(1).padStart(21),
        result.seconds.toFixed(1).padStart(7),
      ].join("  "),
    );
  }
}
if (options.json) {
  const settings = { limit: options.limit ?? null, tasks: options.tasks };
  writeFileSync(options.json, JSON.stringify({ settings, results }, null, 2));
}
