/** Everything that a run found, and how it is printed. */
import type { FamilyName } from "./models/family.ts";
import type { FamilyAgreement } from "./models/verify.ts";
import type { Machine } from "./machine.ts";
import type { Dtype } from "./plan.ts";
import type { Row } from "./results.ts";
import type { SoakTenth } from "./soak.ts";
import type { Figure } from "./statistics.ts";
import type { Engine } from "./subjects/subject.ts";
import { printLines, printRows, short, span } from "./table.ts";

export interface Report {
  readonly machine: Machine;
  readonly family: FamilyName;
  /** Bytes per second that all cores together read. */
  readonly bandwidth: number;
  /** Cores that other processes used during the samples. */
  readonly foreignCores: Figure | null;
  readonly agreements: readonly FamilyAgreement[];
  readonly rows: readonly Row[];
  readonly ratios: Readonly<Record<string, Figure | null>>;
  readonly memory: {
    engine: Engine;
    dtype: Dtype;
    loadMs: number;
    rssBytes: number;
    rssBytesMax: number;
  }[];
  readonly soak: readonly SoakTenth[];
  readonly seconds: number;
}

/** What the project asks of itself on two cores, for the inflated family. */
const BARS: readonly (readonly [ratio: string, bar: number, wanted: "at least" | "at most"])[] = [
  ["proxy_vs_transformersjs_128", 1.3, "at least"],
  ["proxy_vs_transformersjs_1024", 1.5, "at least"],
  ["proxy_speculative_vs_base_only", 1, "at least"],
  ["batch8_vs_batch1", 4, "at least"],
  ["main_thread_delay_p99_ms", 20, "at most"],
];

export function printReport(report: Report): void {
  const { machine, family, bandwidth, foreignCores, agreements, memory } = report;
  console.log(
    `\n${family} family; ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGiB} GiB, Node ${machine.node}`,
  );
  console.log(
    `memory is read at ${(bandwidth / 1e9).toFixed(1)} GB/s; run took ${report.seconds} s`,
  );
  if (foreignCores && foreignCores.median > 0.1) {
    console.log(
      `other processes used ${span(foreignCores)} cores meanwhile: trust ratios, not times`,
    );
  }
  for (const { role, dtype, difference, sameToken } of agreements) {
    console.log(
      `${role} ${dtype}: logits within ${difference.toExponential(1)} of the demo family's fp32, ${(100 * sameToken).toFixed(0)}% the same likeliest token`,
    );
  }
  console.log(
    "\nspeed: relative to transformers.js with the base alone, same format and context\n",
  );
  printRows(report.rows);
  console.log("\nmemory\n");
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  printLines([
    ["engine", "format", "load ms", "MiB loaded", "MiB at most"],
    ...memory.map(({ engine, dtype, loadMs, rssBytes, rssBytesMax }) => [
      engine,
      dtype,
      loadMs.toFixed(0),
      mib(rssBytes),
      mib(rssBytesMax),
    ]),
  ]);
  printSoak(report.soak);
  console.log("\nratios, median (range)\n");
  printRatios(report);
}

/** Whether anything grows: the first and the last tenth of many short jobs, and those between. */
export function printSoak(tenths: readonly SoakTenth[]): void {
  console.log("\nmany short jobs (demo family, int8), by tenths\n");
  printLines([
    ["jobs", "tok/s", "CPU ms/token", "step ms", "RSS MiB", "heap MiB", "buffers MiB", "kept MiB"],
    ...tenths.map((tenth) => [
      String(tenth.jobs),
      tenth.tokensPerSecond.toFixed(0),
      tenth.cpuMsPerToken.toFixed(2),
      short(tenth.stepMs),
      tenth.rssMiB.toFixed(0),
      tenth.heapMiB.toFixed(1),
      tenth.buffersMiB.toFixed(1),
      tenth.keptMiB.toFixed(1),
    ]),
  ]);
}

function printRatios({ ratios, family }: Report): void {
  for (const [name, value] of Object.entries(ratios)) {
    const [, bar, wanted] = BARS.find(([ratio]) => ratio === name) ?? [];
    const shown = value ? (value.min === value.max ? short(value.median) : span(value)) : "not run";
    const isMet = value && (wanted === "at least" ? value.median >= bar! : value.median <= bar!);
    const verdict =
      bar === undefined || family === "demo"
        ? ""
        : `  ${isMet ? "met" : "MISSED"}: ${wanted} ${bar}`;
    console.log(`  ${name.padEnd(40)}${shown}${verdict}`);
  }
}
