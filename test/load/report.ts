/** The report for people. */
import { printLines } from "../bench/table.ts";
import type { LoadReport, Percentiles } from "./run.ts";

/** Failures that are printed; the report as JSON has all. */
const FAILURES_SHOWN = 10;

export function printLoad(report: LoadReport): void {
  const { streams, seconds, workers, tokens, jobs, failures } = report;
  const noun = workers === 1 ? "worker" : "workers";
  console.log(`\n${streams} streams for ${seconds} s, ${workers} ${noun}, ${tokens} tokens each`);
  printLines([
    ["jobs that ended", String(jobs)],
    ["tokens per second", report.tokensPerSecond.toFixed(0)],
    ["streams that failed", String(failures.length)],
    ["connections to Redis, idle", String(report.redisConnections.idle)],
    ["connections to Redis, median", report.redisConnections.median.toFixed(0)],
    ["connections to Redis, at most", String(report.redisConnections.max)],
  ]);
  console.log("\nms");
  printLines([
    ["", "p50", "p90", "p99", "max"],
    row("submission to first token", report.firstToken),
    row("  of it from the run's start", report.firstTokenOfRun),
    row("between events of a stream", report.gap),
  ]);
  console.log("\nmemory at most, MiB");
  printLines(Object.entries(report.memoryMiB).map(([name, mib]) => [name, mib.toFixed(0)]));
  for (const failure of failures.slice(0, FAILURES_SHOWN)) console.log(`  ${failure}`);
}

function row(name: string, times: Percentiles | null): string[] {
  const { p50, p90, p99, max } = times ?? { p50: NaN, p90: NaN, p99: NaN, max: NaN };
  return [name, ...[p50, p90, p99, max].map((ms) => ms.toFixed(1))];
}
