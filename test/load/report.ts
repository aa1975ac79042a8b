/** Prints the report as text. */
import { printLines } from "../bench/table.ts";
import type { LoadReport, Percentiles } from "./run.ts";

/** Limit of the failures that are printed; the JSON report has all. */
const FAILURES_PRINTED_MAX = 10;

export function printLoad(report: LoadReport): void {
  const { streams, seconds, workers, shards, tokens, jobs, failures } = report;
  const noun = workers === 1 ? "worker" : "workers";
  const on = shards === 1 ? "" : ` on ${shards} shards`;
  const run = `${streams} streams for ${seconds} s${on}, ${workers} ${noun}, ${tokens} tokens each`;
  console.log(`\n${run}`);
  printLines([
    ["jobs that ended", String(jobs)],
    ["tokens per second", report.tokensPerSecond.toFixed(0)],
    ["events per second", report.eventsPerSecond.toFixed(0)],
    ["streams that failed", String(failures.length)],
    ["connections to Redis, idle", String(report.redisConnections.idle)],
    ["connections to Redis, median", report.redisConnections.median.toFixed(0)],
    ["connections to Redis, maximum", String(report.redisConnections.max)],
  ]);
  console.log("\nlatencies, ms");
  printLines([
    ["", "p50", "p90", "p99", "max"],
    row("submission to first token", report.firstToken),
    row("start of the attempt to first token", report.firstTokenOfAttempt),
    row("between events of a stream", report.gap),
    ...(report.delay ? [row("from the engine to the client", report.delay)] : []),
  ]);
  console.log("\nmaximum of memory, MiB");
  printLines(Object.entries(report.memoryMiB).map(([name, mib]) => [name, mib.toFixed(0)]));
  console.log("\nprocessor time: cores, and microseconds for each event");
  const perEvent = 1e6 / report.eventsPerSecond;
  printLines(
    Object.entries(report.cores).map(([name, cores]) => [
      name,
      cores.toFixed(2),
      (cores * perEvent).toFixed(0),
    ]),
  );
  for (const failure of failures.slice(0, FAILURES_PRINTED_MAX)) console.log(`  ${failure}`);
}

function row(name: string, times: Percentiles | null): string[] {
  const { p50, p90, p99, max } = times ?? { p50: NaN, p90: NaN, p99: NaN, max: NaN };
  return [name, ...[p50, p90, p99, max].map((ms) => ms.toFixed(1))];
}
