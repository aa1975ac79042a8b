/**
 * Runs cases in rounds with one sample of every case, so that a change of the machine's speed affects all cases alike. Ratios
 * are computed within a round. A short sample is repeated once if other processes were busy.
 */
import { busySeconds } from "./machine.ts";
import type { BenchCase } from "./plan.ts";
import type { Sample, Task } from "./engines/engine.ts";

export interface CaseSamples {
  readonly case: BenchCase;
  /** One for each round; empty if the engine does not run here. */
  readonly samples: readonly Sample[];
  /** Why the case was not measured; null if it was. */
  readonly reason: string | null;
}

export type Measure = (benchCase: BenchCase, task: Task) => Promise<Sample>;

/** Pause before each sample: threads of onnxruntime sessions with default options spin for a while after a run. */
const PAUSE_MS = 100;
/** A short sample is repeated if other processes used more CPU cores than this. */
const OTHER_PROCESS_CORES_MAX = 0.3;
/** Longer samples are not repeated. */
const REPEATED_SECONDS_MAX = 2;

export interface Rounds {
  readonly measured: CaseSamples[];
  /** CPU cores used by other processes, for each sample. */
  readonly otherProcessCores: number[];
}

/** @param run.benchCpuSeconds CPU time so far of the bench and all its child processes */
export async function runRounds(
  cases: readonly BenchCase[],
  rounds: number,
  run: {
    taskFor: (benchCase: BenchCase, round: number) => Task;
    measure: Measure;
    benchCpuSeconds: () => number;
  },
): Promise<Rounds> {
  const samples = new Map<BenchCase, Sample[]>(cases.map((benchCase) => [benchCase, []]));
  const reasons = new Map<BenchCase, string>();
  const otherProcessCores: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [i] of cases.entries()) {
      // Each round starts with another case.
      const benchCase = cases[(i + round) % cases.length]!;
      if (reasons.has(benchCase)) continue;
      try {
        const { sample, otherCores } = await measureLeastDisturbed(
          () => run.measure(benchCase, run.taskFor(benchCase, round)),
          run.benchCpuSeconds,
        );
        samples.get(benchCase)!.push(sample);
        if (otherCores !== null) otherProcessCores.push(otherCores);
      } catch (error) {
        reasons.set(benchCase, error instanceof Error ? error.message : String(error));
      }
    }
  }
  const measured = cases.map((benchCase) => ({
    case: benchCase,
    samples: samples.get(benchCase)!,
    reason: reasons.get(benchCase) ?? null,
  }));
  return { measured, otherProcessCores };
}

interface Attempt {
  readonly sample: Sample;
  /** CPU cores used by other processes; null if unknown. */
  readonly otherCores: number | null;
}

/** Of up to two samples the one during which other processes used less CPU. */
async function measureLeastDisturbed(
  measure: () => Promise<Sample>,
  benchCpuSeconds: () => number,
): Promise<Attempt> {
  let best: Attempt | null = null;
  for (let attempt = 0; attempt < 2; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const [busy, own, startedMs] = [busySeconds(), benchCpuSeconds(), performance.now()];
    const sample = await measure();
    const seconds = (performance.now() - startedMs) / 1000;
    const busyAfter = busySeconds();
    const otherCores =
      busy === null || busyAfter === null
        ? null
        : Math.max(0, busyAfter - busy - (benchCpuSeconds() - own)) / seconds;
    if (best === null || (otherCores ?? 0) < (best.otherCores ?? 0)) best = { sample, otherCores };
    if (seconds > REPEATED_SECONDS_MAX || (best.otherCores ?? 0) <= OTHER_PROCESS_CORES_MAX) break;
  }
  return best!;
}
