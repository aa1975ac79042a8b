/** Prints what differs between runs of the evaluation with the same recipes and other seeds. */
import type { SystemName, TaskResult } from "./eval.ts";
import { formatNumber, printRows, type Row } from "./report.ts";
import { TASKS } from "./task.ts";

const SYSTEMS: Record<SystemName, string> = {
  base: "base alone",
  expert: "small expert alone",
  proxyAtOne: "proxy-tuned, alpha 1",
  proxy: "proxy-tuned, alpha of the dev split",
  tuned: "base tuned directly",
};

export function printSpread(results: readonly TaskResult[]): void {
  for (const task of TASKS) {
    const runs = results.filter((result) => result.task === task);
    if (runs.length < 2) continue;
    console.log(`\n${task}: mean, smallest and largest of ${runs.length} runs, in %\n`);
    const row = (label: string, of: (result: TaskResult) => number | undefined): Row[] => {
      const values = runs.map(of).filter((value) => value !== undefined);
      if (values.length < runs.length) return [];
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return [[label, ...[mean, Math.min(...values), Math.max(...values)].map(formatNumber)]];
    };
    printRows([
      ["system", "mean", "smallest", "largest"],
      ...Object.entries(SYSTEMS).flatMap(([name, label]) =>
        row(label, (r) => r[name as SystemName]),
      ),
      ...row("gap closed", ({ gapClosed }) => gapClosed),
      ...row("proxy-tuned - expert", ({ proxy, expert }) => proxy - expert),
      ...row("rude answers, proxy-tuned", ({ rude }) => rude),
      ...row("alpha", ({ alpha }) => alpha),
    ]);
  }
}
