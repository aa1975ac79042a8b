/** The report of a bench run, and how it is printed. */
import type { FamilyName } from "./models/family.ts";
import type { FamilyAgreement } from "./models/verify.ts";
import type { Machine } from "./machine.ts";
import type { Dtype } from "./plan.ts";
import type { ResultRow } from "./results.ts";
import type { SoakTenth } from "./soak.ts";
import type { Summary } from "./statistics.ts";
import type { EngineName } from "./engines/engine.ts";
import { printLines, printResults, formatNumber, formatRange } from "./table.ts";

export interface Report {
  readonly machine: Machine;
  readonly family: FamilyName;
  /** Memory bandwidth of all cores together, reading. */
  readonly bandwidthBytesPerSecond: number;
  /** CPU cores used by other processes during the samples; null if unknown. */
  readonly otherProcessCores: Summary | null;
  readonly agreements: readonly FamilyAgreement[];
  readonly rows: readonly ResultRow[];
  /** Speed ratios (results.ts) and timer delays, by name. */
  readonly ratios: Readonly<Record<string, Summary | null>>;
  readonly memory: {
    engine: EngineName;
    dtype: Dtype;
    loadMs: number;
    rssBytes: number;
    rssBytesMax: number;
  }[];
  readonly soak: readonly SoakTenth[];
  readonly seconds: number;
}

/** Targets of the project on two cores, for the inflated family. */
const TARGETS: readonly (readonly [name: string, limit: number, bound: "at least" | "at most"])[] =
  [
    ["proxy_vs_transformersjs_128", 1.3, "at least"],
    ["proxy_vs_transformersjs_1024", 1.5, "at least"],
    ["proxy_speculative_vs_base_only", 1, "at least"],
    ["batch8_vs_batch1", 4, "at least"],
    ["main_thread_delay_p99_ms", 20, "at most"],
  ];

export function printReport(report: Report): void {
  const { machine, family, bandwidthBytesPerSecond, otherProcessCores, agreements, memory } =
    report;
  console.log(
    `\n${family} family; ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGiB} GiB, Node ${machine.node}`,
  );
  console.log(
    `memory bandwidth (reading) ${(bandwidthBytesPerSecond / 1e9).toFixed(1)} GB/s; the run took ${report.seconds} s`,
  );
  if (otherProcessCores && otherProcessCores.median > 0.1) {
    console.log(
      `other processes used ${formatRange(otherProcessCores)} cores during the run: ratios are reliable, times are not`,
    );
  }
  for (const { role, dtype, difference, sameTokenShare } of agreements) {
    console.log(
      `${role} ${dtype}: logits differ from the demo family's fp32 by at most ${difference.toExponential(1)}; the same greedy token at ${(100 * sameTokenShare).toFixed(0)}% of the positions`,
    );
  }
  console.log(
    "\nspeed, relative to transformers.js with the base alone in the same format and context\n",
  );
  printResults(report.rows);
  console.log("\nmemory\n");
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  printLines([
    ["engine", "format", "load ms", "RSS MiB after loading", "RSS MiB at most"],
    ...memory.map(({ engine, dtype, loadMs, rssBytes, rssBytesMax }) => [
      engine,
      dtype,
      loadMs.toFixed(0),
      mib(rssBytes),
      mib(rssBytesMax),
    ]),
  ]);
  printSoak(report.soak);
  console.log("\nratios, median (smallest - largest)\n");
  printRatios(report);
}

/** Speed and memory for each tenth of many short jobs, to see whether memory grows or steps get slower. */
export function printSoak(tenths: readonly SoakTenth[]): void {
  console.log("\nmany short jobs (demo family, int8), one line for each tenth of the jobs\n");
  printLines([
    [
      "jobs",
      "tokens/s",
      "CPU ms/token",
      "step ms",
      "RSS MiB",
      "heap MiB",
      "buffers MiB",
      "prefix cache MiB",
    ],
    ...tenths.map((tenth) => [
      String(tenth.jobs),
      tenth.tokensPerSecond.toFixed(0),
      tenth.cpuMsPerToken.toFixed(2),
      formatNumber(tenth.stepMs),
      tenth.rssMiB.toFixed(0),
      tenth.heapMiB.toFixed(1),
      tenth.buffersMiB.toFixed(1),
      tenth.prefixCacheMiB.toFixed(1),
    ]),
  ]);
}

function printRatios({ ratios, family }: Report): void {
  for (const [name, value] of Object.entries(ratios)) {
    const [, limit, bound] = TARGETS.find(([target]) => target === name) ?? [];
    const isMet = value && (bound === "at least" ? value.median >= limit! : value.median <= limit!);
    const verdict =
      limit === undefined || family === "demo"
        ? ""
        : `  target ${isMet ? "met" : "MISSED"}: ${bound} ${limit}`;
    console.log(`  ${name.padEnd(40)}${value ? formatSummary(value) : "not run"}${verdict}`);
  }
}

function formatSummary(value: Summary): string {
  return value.min === value.max ? formatNumber(value.median) : formatRange(value);
}
