/** The report for people. */
import { printLines } from "../bench/table.ts";
import type { ChaosReport } from "./run.ts";

/** Violations that are printed; the report as JSON has all. */
const VIOLATIONS_SHOWN = 40;

export function printReport(report: ChaosReport): void {
  const { seed, seconds, tokens, takeovers, resumes, longestPauseMs, webhooks } = report;
  const table = (counts: Readonly<Record<string, number>>) =>
    printLines(Object.entries(counts).map(([name, count]) => [name, String(count)]));
  console.log(`\nfaults in ${seconds} s, seed ${seed}`);
  table(report.faults);
  console.log("\njobs");
  table({ ...report.jobs, tokens, takeovers });
  console.log("\nclients");
  table({ "streams resumed": resumes, "longest pause, ms": longestPauseMs });
  console.log("\nwebhooks");
  table({ ...webhooks });
  console.log("\nof each job that was accepted");
  printLines([
    ["", "kept", "broken"],
    ...report.verdicts.map(({ promise, kept, broken }) => [
      promise,
      String(kept),
      String(broken.length),
    ]),
  ]);
  const { violations } = report;
  if (violations.length === 0) return console.log("\nnothing was lost, nothing came twice");
  console.log(`\n${violations.length} violations with seed ${seed}`);
  for (const violation of violations.slice(0, VIOLATIONS_SHOWN)) console.log(`  ${violation}`);
}
