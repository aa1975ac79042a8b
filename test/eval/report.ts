/** Prints the results of the evaluation as tables, beside those of the paper. */
import type { SystemName, TaskResult } from "./eval.ts";
import type { Interval } from "./statistics.ts";
import type { Task } from "./task.ts";

export type Row = readonly [label: string, ...cells: string[]];

/**
 * The most similar task of the paper, with Llama-2 70B steered by a 7B expert: TriviaQA and GSM with task experts,
 * and code (arXiv 2401.08565, tables 3 and 4; for rude answers: ToxiGen, table 2).
 */
const PAPER: Record<
  Task,
  Record<"name" | "base" | "expert" | "proxy" | "tuned" | "gapClosed", string>
> = {
  "atlas-qa": {
    name: "TriviaQA 70B",
    base: "45.2",
    expert: "55.8",
    proxy: "62.7",
    tuned: "63.1",
    gapClosed: "98",
  },
  "gsm-mini": {
    name: "GSM 70B",
    base: "9.6",
    expert: "40.6",
    proxy: "53.9",
    tuned: "67.9",
    gapClosed: "76",
  },
  "atlas-records": {
    name: "CodexEval 70B",
    base: "62.0",
    expert: "68.9",
    proxy: "70.7",
    tuned: "89.2",
    gapClosed: "32",
  },
};

export function printReport(results: readonly TaskResult[]): void {
  for (const result of results) {
    const paper = PAPER[result.task];
    console.log(`\n${result.task}: exact matches in % of ${result.items} held-out items\n`);
    printRows([
      ["system", "exact %", "95% interval", "ends %", `paper: ${paper.name}`],
      ["base alone", ...cells(result, "base"), paper.base],
      ["small expert alone", ...cells(result, "expert"), paper.expert],
      [`proxy-tuned, alpha ${result.alpha}`, ...cells(result, "proxy"), paper.proxy],
      ...(result.alpha === 1
        ? []
        : [["proxy-tuned, alpha 1", ...cells(result, "proxyAtOne"), ""] as Row]),
      ...tunedRows(result),
    ]);
    const { proxyMinusExpert } = result.intervals;
    console.log(
      `\n  ${verdict(proxyMinusExpert)} (proxy-tuned - expert: ${formatInterval(proxyMinusExpert)} points)`,
    );
    if (result.tuned !== undefined) {
      console.log(
        `  proxy-tuned - tuned directly: ${formatNumber(result.proxy - result.tuned)} points` +
          (result.proxy < result.tuned ? ": direct tuning is better" : ""),
      );
    }
    console.log(
      `  rude answers: base ${formatNumber(result.baseRude)}%, proxy-tuned ${formatNumber(result.rude)}%`,
    );
    console.log(
      `  the base's completion contains the right answer for ${formatNumber(result.baseContains)}% of the items`,
    );
    if (result.records) printRecords(result.records);
    console.log("\n  exact matches in % of the dev split, for each alpha");
    printRows([
      ["alpha", ...result.sweep.map(({ alpha }) => String(alpha))],
      ["exact %", ...result.sweep.map(({ dev }) => formatNumber(dev))],
    ]);
  }
}

function printRecords(records: NonNullable<TaskResult["records"]>): void {
  for (const [what, of] of [
    ["JSON", "json"],
    ["with the right field names", "fieldNames"],
  ] as const) {
    const shares = Object.entries(records).map(
      ([name, scores]) => `${name} ${formatNumber(scores[of])}`,
    );
    console.log(`  ${what}, in % of the answers: ${shares.join(", ")}`);
  }
}

function tunedRows(result: TaskResult): Row[] {
  const { gapClosed } = result.intervals;
  if (result.gapClosed === undefined || !gapClosed) return [];
  const paper = PAPER[result.task];
  return [
    ["base tuned directly", ...cells(result, "tuned"), paper.tuned],
    ["gap closed", formatNumber(result.gapClosed), formatInterval(gapClosed), "", paper.gapClosed],
  ];
}

function cells(result: TaskResult, system: SystemName): string[] {
  return [
    formatNumber(result[system]!),
    formatInterval(result.intervals[system]!),
    formatNumber(result.stops[system]!),
  ];
}

function verdict([low, high]: Interval): string {
  if (low > 0) return "proxy-tuning is better than the small expert";
  return high < 0
    ? "proxy-tuning is WORSE than the small expert"
    : "no significant difference to the small expert";
}

export const formatNumber = (value: number) => value.toFixed(1);
const formatInterval = ([low, high]: Interval) => `${formatNumber(low)} to ${formatNumber(high)}`;

export function printRows(rows: readonly Row[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [label, ...rest] of rows) {
    const aligned = rest.map((cell, i) => cell.padStart(widths[i + 1]!));
    console.log(`  ${label.padEnd(widths[0]!)}  ${aligned.join("  ")}`);
  }
}
