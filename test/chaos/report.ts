/** Prints the report as text. */
import { printLines } from "../bench/table.ts";
import type { ChaosReport } from "./run.ts";

/** Limit of the violations that are printed; the JSON report has all. */
const VIOLATIONS_PRINTED_MAX = 40;

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
  console.log("\nguarantees: number of jobs");
  printLines([
    ["", "kept", "broken"],
    ...report.guarantees.map(({ guarantee, kept, broken }) => [
      guarantee,
      String(kept),
      String(broken.length),
    ]),
  ]);
  const { violations } = report;
  if (violations.length === 0) return console.log("\nno violations: nothing was lost or repeated");
  console.log(`\n${violations.length} violations with seed ${seed}`);
  for (const violation of violations.slice(0, VIOLATIONS_PRINTED_MAX))
    console.log(`  ${violation}`);
}
