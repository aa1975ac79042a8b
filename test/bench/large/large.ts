/**
 * The cost of a model of a billion parameters with a large vocabulary: preparing and loading it, its memory, a step, and what is done
 * with the logits of each token. The models are built first, one after the other, and removed (model.ts).
 */
import { fork } from "node:child_process";
import { readFileSync, rmSync, statSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { printLines } from "../table.ts";
import { CASES, measureToken } from "../tokens/measure.ts";
import { LARGE_SHAPES, largeModel, type LargeName } from "./model.ts";
import type { Stage, StageTimes } from "./process.ts";

/** Most bytes at a time while a stage runs, besides what it maps of files; and with that. */
interface StageMemory {
  readonly anonymousBytesMax: number;
  readonly residentBytesMax: number;
  /** Besides mapped files, at the end of the stage. */
  readonly anonymousBytes: number;
}

export interface LargeResult {
  readonly name: LargeName;
  readonly vocabSize: number;
  readonly fileBytes: number;
  readonly stages: Readonly<Record<Stage, StageTimes & StageMemory>>;
  /** Processor time of one token besides the models, in ms. */
  readonly tokenMs: Readonly<Record<string, number>>;
  /** Processes that waited for a processor, on average over a minute. */
  readonly load: number;
}

const TOKEN_CASES = [
  "greedy",
  "temperature 1",
  "top_p 0.9",
  "logprobs 20",
  "JSON mask",
  "top_p, logprobs 20, trace",
] as const;
const TOKEN_RUNS = 30;
/** Target: the most that a token may cost besides the models, as a part of the base's step. */
const PART_MAX = 0.15;
const MIB = 2 ** 20;

export async function measureLarge(log: (text: string) => void): Promise<LargeResult[]> {
  const results: LargeResult[] = [];
  for (const name of Object.keys(LARGE_SHAPES) as LargeName[]) {
    log(`${name}: building`);
    const folder = largeModel(name);
    try {
      const graph = join(folder, "onnx/model_quantized.onnx");
      rmSync(join(folder, "onnx/model_quantized.prepared.onnx"), { force: true });
      const stages = {} as Record<Stage, StageTimes & StageMemory>;
      for (const stage of ["prepare", "load"] as const) {
        log(`${name}: ${stage}`);
        stages[stage] = await runStage(folder, stage);
      }
      log(`${name}: tokens`);
      const { vocabSize } = LARGE_SHAPES[name];
      const tokenMs = Object.fromEntries(
        TOKEN_CASES.map((each) => [
          each,
          measureToken(CASES[each]!, "peaked", { size: vocabSize, runs: TOKEN_RUNS }),
        ]),
      );
      const fileBytes = [graph, `${graph}_data`].reduce(
        (sum, file) => sum + statSync(file).size,
        0,
      );
      results.push({ name, vocabSize, fileBytes, stages, tokenMs, load: loadavg()[0]! });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return results;
}

/** Runs a stage in its own process and reads its memory from /proc meanwhile. */
async function runStage(folder: string, stage: Stage): Promise<StageTimes & StageMemory> {
  const child = fork(join(import.meta.dirname, "process.ts"), [folder, stage], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  let [anonymousBytesMax, residentBytesMax, anonymousBytes] = [0, 0, 0];
  const watch = () => {
    const { anonymous, file } = memoryOf(child.pid!) ?? { anonymous: anonymousBytes, file: 0 };
    anonymousBytes = anonymous;
    anonymousBytesMax = Math.max(anonymousBytesMax, anonymous);
    residentBytesMax = Math.max(residentBytesMax, anonymous + file);
  };
  const timer = setInterval(watch, 50);
  let times: StageTimes | null = null;
  child.once("message", (message) => {
    times = message as StageTimes;
    watch();
  });
  const [code] = await new Promise<[number | null]>((resolve) => {
    child.once("exit", (exitCode) => resolve([exitCode]));
  });
  clearInterval(timer);
  if (!times) throw new Error(`The stage ${stage} ended with ${code ?? "a signal"}`);
  return { ...(times as StageTimes), anonymousBytesMax, residentBytesMax, anonymousBytes };
}

/** Memory of a process: its own, and mapped files. Null after its end. */
function memoryOf(pid: number): { anonymous: number; file: number } | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const bytes = (field: string) =>
      1024 * Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
    return { anonymous: bytes("RssAnon"), file: bytes("RssFile") };
  } catch {
    return null;
  }
}

export function printLarge(results: readonly LargeResult[]): void {
  for (const { name, fileBytes, stages, tokenMs, load } of results) {
    const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`;
    console.log(`\n${name}: ${mib(fileBytes)} on disk; load of the machine ${load.toFixed(1)}`);
    for (const [stage, of] of Object.entries(stages)) {
      const { loadSeconds, loadCpuSeconds, anonymousBytes, anonymousBytesMax } = of;
      const memory = `${mib(anonymousBytesMax)} at most, ${mib(anonymousBytes)} at the end, besides mapped files`;
      const factor = (anonymousBytesMax / fileBytes).toFixed(2);
      console.log(
        `${stage}: ${loadSeconds.toFixed(1)} s, processor time ${loadCpuSeconds.toFixed(1)} s; ${memory} (${factor} of the files); with them ${mib(of.residentBytesMax)}`,
      );
    }
    const { stepCpuMs } = stages.load;
    const steps = Object.entries(stepCpuMs).map(([run, ms]) => `${run} ${ms.toFixed(1)} ms`);
    console.log(`processor time of a run: ${steps.join(", ")}`);
    const step = stepCpuMs["one token"]!;
    const lines = Object.entries(tokenMs).map(([each, ms]) => {
      const part = ms / step;
      const verdict = part <= PART_MAX ? "met" : "MISSED";
      return [each, ms.toFixed(2), `${(100 * part).toFixed(1)}%`, verdict];
    });
    printLines([["besides the models", "ms", "of a step", "target 15%"], ...lines]);
  }
}
