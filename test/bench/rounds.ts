/**
 * Runs cases in rounds, one sample of every case in each, so that what the machine does to one it does to all. Ratios are
 * taken within a round. Short samples during which other processes were busy are taken again.
 */
import { busySeconds } from "./machine.ts";
import type { Case } from "./plan.ts";
import type { Sample, Task } from "./subjects/subject.ts";

export interface Measured {
  readonly case: Case;
  /** One per round; empty if the engine does not run here. */
  readonly samples: readonly Sample[];
  /** Why it was not measured. */
  readonly reason: string | null;
}

export type Measure = (one: Case, task: Task) => Promise<Sample>;

/** Threads of default sessions spin for a while after a run. */
const PAUSE_MS = 100;
/** Cores that others may use during a sample. A short sample is else taken once more, in hope of less. */
const FOREIGN_CORES_MAX = 0.3;
const RETRIED_SECONDS_MAX = 2;

export interface Rounds {
  readonly measured: Measured[];
  /** Cores that other processes used, by sample. */
  readonly foreignCores: number[];
}

/** @param ownSeconds CPU time of the bench and all its processes */
export async function runRounds(
  cases: readonly Case[],
  rounds: number,
  run: { taskOf: (one: Case, round: number) => Task; measure: Measure; ownSeconds: () => number },
): Promise<Rounds> {
  const samples = new Map<Case, Sample[]>(cases.map((one) => [one, []]));
  const reasons = new Map<Case, string>();
  const foreignCores: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [i] of cases.entries()) {
      // Another first case in every round.
      const one = cases[(i + round) % cases.length]!;
      if (reasons.has(one)) continue;
      try {
        const { sample, foreign } = await quietest(
          () => run.measure(one, run.taskOf(one, round)),
          run.ownSeconds,
        );
        samples.get(one)!.push(sample);
        if (foreign !== null) foreignCores.push(foreign);
      } catch (error) {
        reasons.set(one, error instanceof Error ? error.message : String(error));
      }
    }
  }
  const measured = cases.map((one) => ({
    case: one,
    samples: samples.get(one)!,
    reason: reasons.get(one) ?? null,
  }));
  return { measured, foreignCores };
}

interface Attempt {
  readonly sample: Sample;
  readonly foreign: number | null;
}

async function quietest(
  measure: () => Promise<Sample>,
  ownSeconds: () => number,
): Promise<Attempt> {
  let best: Attempt | null = null;
  for (let attempt = 0; attempt < 2; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const [busy, own, startedMs] = [busySeconds(), ownSeconds(), performance.now()];
    const sample = await measure();
    const seconds = (performance.now() - startedMs) / 1000;
    const busyAfter = busySeconds();
    const foreign =
      busy === null || busyAfter === null
        ? null
        : Math.max(0, busyAfter - busy - (ownSeconds() - own)) / seconds;
    if (best === null || (foreign ?? 0) < (best.foreign ?? 0)) best = { sample, foreign };
    if (seconds > RETRIED_SECONDS_MAX || (best.foreign ?? 0) <= FOREIGN_CORES_MAX) break;
  }
  return best!;
}
