/**
 * `npm run bench`: how fast proxy-tuning is, beside its base alone and beside other engines, from the same weights and in
 * one run. Models are the demo family's, inflated to a realistic size (models/inflate.ts); --quick takes the family as it is.
 */
import { fork } from "node:child_process";
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { family, type Family } from "./models/family.ts";
import { cpuSeconds, machine, readBandwidth } from "./machine.ts";
import { installPeers } from "./peers/install.ts";
import { casesOf, FULL, QUICK, taskOf, type Dtype, type Plan } from "./plan.ts";
import { printReport, printSoak, type Report } from "./report.ts";
import { ratiosOf, rowOf } from "./results.ts";
import { runRounds, type Measured } from "./rounds.ts";
import type { Heartbeat } from "./serving.ts";
import type { SoakTenth } from "./soak.ts";
import { figure } from "./statistics.ts";
import { SubjectProcess } from "./subjects/spawn.ts";
import { ENGINES, type Engine } from "./subjects/subject.ts";
import { checkFamily } from "./models/verify.ts";

const options = new Command("bench")
  .description("Compares proxy-tuned decoding with its base alone and with other engines")
  .option("--json <file>", "write rows and ratios to a file")
  .option("--quick", "the demo family as it is, few rounds", false)
  .option("--only <dtype>", "one weight format")
  .option("--soak <jobs>", "nothing but the test for leaks, with so many jobs", Number)
  .parse()
  .opts<{ json?: string; quick: boolean; only?: Dtype; soak?: number }>();

const startedMs = Date.now();
const seconds = () => Math.round((Date.now() - startedMs) / 1000);
const step = (text: string) =>
  process.stderr.write(`${String(seconds()).padStart(5)} s  ${text}\n`);

if (options.soak) {
  printSoak(await soakWith(options.soak));
  process.exit();
}

const chosen: Plan = options.quick ? QUICK : FULL;
const plan: Plan = options.only ? { ...chosen, dtypes: [options.only] } : chosen;
const noPeers = installPeers();
const folders = family(plan.family);
step("comparing the models with what they were made from");
const agreements = await checkFamily(folders, plan.dtypes);
const bandwidth = await readBandwidth();
const all: Measured[] = [];
const foreign: number[] = [];
const memory: Report["memory"] = [];
for (const dtype of plan.dtypes) await measureFormat(dtype, folders);
const heartbeats = new Map<Dtype, Heartbeat>();
for (const dtype of plan.dtypes) {
  step(`${dtype}: the main thread under load`);
  heartbeats.set(
    dtype,
    await ask<Heartbeat>("serving.ts", JSON.stringify({ family: plan.family, dtype })),
  );
}
step(`${plan.jobs} jobs`);
const soak = await soakWith(plan.jobs);

const report: Report = {
  machine: machine(),
  family: plan.family,
  bandwidth,
  foreignCores: figure(foreign),
  agreements,
  rows: all.map((measured) => rowOf(measured, folders, bandwidth)),
  ratios: { ...ratiosOf(all, plan.dtypes), ...delays() },
  memory,
  soak,
  seconds: seconds(),
};
printReport(report);
if (options.json) {
  writeFileSync(options.json, JSON.stringify(report, null, 2));
  console.log(`\nwritten to ${resolve(options.json)}`);
}

async function measureFormat(dtype: Dtype, folders: Family): Promise<void> {
  const subjects = new Map<Engine, SubjectProcess>();
  const reasons = new Map<Engine, string>();
  for (const engine of ENGINES) {
    step(`${dtype}: loading ${engine}`);
    try {
      if (noPeers && (engine === "transformers" || engine === "llama")) throw new Error(noPeers);
      const subject = await SubjectProcess.start({ engine, family: folders, dtype });
      subjects.set(engine, subject);
    } catch (error) {
      reasons.set(engine, error instanceof Error ? error.message : String(error));
    }
  }
  const ownSeconds = () => {
    const pids = [process.pid, ...Array.from(subjects.values(), ({ pid }) => pid)];
    return pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  };
  for (const context of plan.contexts) {
    step(`${dtype}: ${plan.rounds(context)} rounds at ${context} tokens`);
    const done = await runRounds(casesOf(plan, dtype, context), plan.rounds(context), {
      taskOf,
      ownSeconds,
      measure: ({ engine }, task) => {
        const subject = subjects.get(engine);
        if (!subject) throw new Error(reasons.get(engine));
        return subject.measure(task);
      },
    });
    all.push(...done.measured);
    foreign.push(...done.foreignCores);
  }
  for (const [engine, subject] of subjects) {
    const { loadMs, rssBytes, rssBytesMax } = subject;
    memory.push({ engine, dtype, loadMs, rssBytes, rssBytesMax });
    subject.stop();
  }
}

function soakWith(jobs: number): Promise<SoakTenth[]> {
  return ask<SoakTenth[]>("soak.ts", String(jobs));
}

/** Runs a file in a process of its own, and waits for the one thing that it says. */
function ask<T>(file: string, argument: string): Promise<T> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [argument], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: ["--expose-gc"],
  });
  return new Promise((resolve, reject) => {
    let said: { readonly message: T } | null = null;
    child.once("message", (message) => (said = { message: message as T }));
    // Not with the message: we may end then, and with us the channel that it is about to leave.
    child.once("disconnect", () =>
      said ? resolve(said.message) : reject(new Error(`${file} ended without a result`)),
    );
  });
}

function delays(): Report["ratios"] {
  const p99s = Array.from(heartbeats, ([dtype, { delayP99Ms }]) => [dtype, delayP99Ms] as const);
  const name = "main_thread_delay_p99_ms";
  const same = (value: number) => ({ median: value, min: value, max: value });
  return {
    [name]: same(Math.max(...p99s.map(([, ms]) => ms))),
    ...Object.fromEntries(p99s.map(([dtype, ms]) => [`${name}_${dtype}`, same(ms)])),
  };
}
