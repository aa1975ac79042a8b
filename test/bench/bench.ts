/**
 * `npm run bench`: speed of proxy-tuning beside its base alone and beside other engines, with the same weights and in one run.
 * The models are the demo family's, inflated to a realistic size (models/inflate.ts); --quick uses the family without that.
 */
import { fork } from "node:child_process";
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { ENGINE_NAMES, type EngineName } from "./engines/engine.ts";
import { EngineProcess } from "./engines/spawn.ts";
import { cpuSeconds, describeMachine, readBandwidth } from "./machine.ts";
import { printDrafts, type DraftsResult } from "./drafts.ts";
import { measureLarge, printLarge } from "./large/large.ts";
import { family } from "./models/family.ts";
import { checkFamily } from "./models/verify.ts";
import { installPeers } from "./peers/install.ts";
import { benchCases, benchTask, FULL, QUICK, type Dtype, type Plan } from "./plan.ts";
import { printReport, printSoak, type Report } from "./report.ts";
import { resultRow, speedRatios } from "./results.ts";
import { runRounds, type CaseSamples } from "./rounds.ts";
import type { SoakTenth } from "./soak.ts";
import { summarize } from "./statistics.ts";
import type { TimerDelays } from "./timer-delays.ts";
import { printUneven, type UnevenResult } from "./uneven.ts";

const options = new Command("npm run bench --")
  .description("measure the speed of proxy-tuned decoding beside its base alone and other engines")
  .option("--json <file>", "also write the report to this file")
  .option("--quick", "use the demo models without inflating them, and fewer rounds", false)
  .addOption(new Option("--only <dtype>", "measure one weight format").choices(["fp32", "int8"]))
  .option("--uneven", "measure only seven short sequences beside a long one", false)
  .option("--drafts", "measure only sequences that run together, with and without drafts", false)
  .option("--large", "measure only models of a billion parameters, which take 3 GB of disk", false)
  .option("--soak <jobs>", "run only the soak test, with this number of jobs", Number)
  .parse()
  .opts<{
    json?: string;
    quick: boolean;
    only?: Dtype;
    uneven: boolean;
    drafts: boolean;
    large: boolean;
    soak?: number;
  }>();

const startedMs = Date.now();
const elapsedSeconds = () => Math.round((Date.now() - startedMs) / 1000);
const logProgress = (text: string) =>
  process.stderr.write(`${String(elapsedSeconds()).padStart(5)} s  ${text}\n`);

if (options.soak) {
  const soak = await runSoak(options.soak);
  printSoak(soak);
  writeJson({ machine: describeMachine(), soak, seconds: elapsedSeconds() });
  process.exit();
}

if (options.uneven) {
  const uneven = await runFormats<UnevenResult>("uneven.ts");
  printUneven(uneven);
  writeJson({ machine: describeMachine(), uneven, seconds: elapsedSeconds() });
  process.exit();
}

if (options.drafts) {
  const drafts = await runFormats<DraftsResult>("drafts.ts");
  printDrafts(drafts);
  writeJson({ machine: describeMachine(), drafts, seconds: elapsedSeconds() });
  process.exit();
}

if (options.large) {
  const large = await measureLarge(logProgress);
  printLarge(large);
  writeJson({ machine: describeMachine(), large, seconds: elapsedSeconds() });
  process.exit();
}

const defaults: Plan = options.quick ? QUICK : FULL;
const plan: Plan = options.only ? { ...defaults, dtypes: [options.only] } : defaults;
const peersError = installPeers();
const folders = family(plan.family);
logProgress("comparing the models with the demo family");
const agreements = await checkFamily(folders, plan.dtypes);
const bandwidthBytesPerSecond = await readBandwidth();
const measured: CaseSamples[] = [];
const otherProcessCores: number[] = [];
const memory: Report["memory"] = [];
for (const dtype of plan.dtypes) await measureFormat(dtype);
const timerDelays = new Map<Dtype, TimerDelays>();
for (const dtype of plan.dtypes) {
  logProgress(`${dtype}: timers of the main thread under load`);
  const delayOptions = JSON.stringify({ family: plan.family, dtype });
  timerDelays.set(dtype, await runChild<TimerDelays>("timer-delays.ts", delayOptions));
}
logProgress(`soak test with ${plan.jobs} jobs`);
const soak = await runSoak(plan.jobs);

const report: Report = {
  machine: describeMachine(),
  family: plan.family,
  bandwidthBytesPerSecond,
  otherProcessCores: summarize(otherProcessCores),
  agreements,
  rows: measured.map((samples) => resultRow(samples, folders, bandwidthBytesPerSecond)),
  ratios: { ...speedRatios(measured, plan.dtypes), ...delaySummaries() },
  memory,
  soak,
  seconds: elapsedSeconds(),
};
printReport(report);
writeJson(report);

/** Measures all engines with one weight format; an engine that does not load gets its error as reason. */
async function measureFormat(dtype: Dtype): Promise<void> {
  const engines = new Map<EngineName, EngineProcess>();
  const loadErrors = new Map<EngineName, string>();
  for (const name of ENGINE_NAMES) {
    logProgress(`${dtype}: loading ${name}`);
    try {
      const isPeer = name === "transformers" || name === "llama";
      if (peersError && isPeer) throw new Error(peersError);
      engines.set(name, await EngineProcess.start({ engine: name, family: plan.family, dtype }));
    } catch (error) {
      loadErrors.set(name, error instanceof Error ? error.message : String(error));
    }
  }
  const benchCpuSeconds = () => {
    const pids = [process.pid, ...Array.from(engines.values(), ({ pid }) => pid)];
    return pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  };
  for (const context of plan.contexts) {
    const rounds = plan.rounds(context);
    logProgress(`${dtype}: ${rounds} rounds with ${context} prompt tokens`);
    const results = await runRounds(benchCases(plan, dtype, context), rounds, {
      taskFor: benchTask,
      benchCpuSeconds,
      measure: ({ engine: name }, task) => {
        const engine = engines.get(name);
        if (!engine) throw new Error(loadErrors.get(name));
        return engine.measure(task);
      },
    });
    measured.push(...results.measured);
    otherProcessCores.push(...results.otherProcessCores);
  }
  for (const [name, engine] of engines) {
    const { loadMs, rssBytes, rssBytesMax } = engine;
    memory.push({ engine: name, dtype, loadMs, rssBytes, rssBytesMax });
    engine.stop();
  }
}

function runSoak(jobs: number): Promise<SoakTenth[]> {
  return runChild<SoakTenth[]>("soak.ts", String(jobs));
}

/** Runs a file for each weight format. */
async function runFormats<T>(file: string): Promise<T[]> {
  const results: T[] = [];
  for (const dtype of options.only ? [options.only] : FULL.dtypes) {
    logProgress(`${dtype}: ${file}`);
    results.push(await runChild<T>(file, dtype));
  }
  return results;
}

/** Runs a file in its own process and returns the message that it sends. @throws Error if it ends without one */
function runChild<T>(file: string, argument: string): Promise<T> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [argument], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: ["--expose-gc"],
  });
  return new Promise((resolve, reject) => {
    let result: { readonly message: T } | null = null;
    child.once("message", (message) => (result = { message: message as T }));
    // Resolved at the exit, not at the message: otherwise this process could exit before the child has closed its channel.
    child.once("disconnect", () =>
      result ? resolve(result.message) : reject(new Error(`${file} ended without a result`)),
    );
  });
}

function delaySummaries(): Report["ratios"] {
  const p99s = Array.from(timerDelays, ([dtype, { delayP99Ms }]) => [dtype, delayP99Ms] as const);
  const name = "main_thread_delay_p99_ms";
  const single = (value: number) => ({ median: value, min: value, max: value });
  return {
    [name]: single(Math.max(...p99s.map(([, ms]) => ms))),
    ...Object.fromEntries(p99s.map(([dtype, ms]) => [`${name}_${dtype}`, single(ms)])),
  };
}

function writeJson(content: object): void {
  if (!options.json) return;
  writeFileSync(options.json, JSON.stringify(content, null, 2));
  console.log(`\nwritten to ${resolve(options.json)}`);
}
