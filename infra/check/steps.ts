/** Runs the steps of a check, two at a time, and prints for each how long it took and, if it failed, its output. */
import { Child } from "../stack/process.ts";

export interface CheckStep {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Whether the last line of its output is printed also when it succeeds. */
  readonly printsLastLine?: boolean;
}

/** tsc and oxlint use several threads each, so more steps at once would need more memory and would not be faster. */
const STEPS_AT_ONCE = 2;
/** Enough for the complete output of a step that fails. */
const OUTPUT_CHARS_MAX = 1_000_000;

/**
 * Runs every step even if one fails, so that one run shows all errors.
 * @returns the names of the steps that failed
 */
export async function runSteps(
  steps: readonly CheckStep[],
  interrupted: AbortSignal,
): Promise<string[]> {
  const waiting = [...steps];
  const failed: string[] = [];
  const runNext = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      if (!(await succeeds(step, interrupted))) failed.push(step.name);
    }
  };
  await Promise.all(Array.from({ length: STEPS_AT_ONCE }, runNext));
  return failed;
}

async function succeeds(step: CheckStep, interrupted: AbortSignal) {
  const { name, command, args, printsLastLine = false } = step;
  const startMs = performance.now();
  const child = new Child({ name, command, args, outputCharsMax: OUTPUT_CHARS_MAX });
  const { code } = await child.exited;
  await neverIfAborted(interrupted);
  const succeeded = code === 0;
  const note = succeeded && printsLastLine ? `: ${child.output.trimEnd().split("\n").at(-1)}` : "";
  console.log(`${name.padEnd(20)} ${secondsSince(startMs)}  ${succeeded ? "ok" : "FAILED"}${note}`);
  if (!succeeded) console.log(`\n${[command, ...args].join(" ")}\n${child.output.trimEnd()}\n`);
  return succeeded;
}

/** After an interrupt it never resolves: the process ends soon, and a step that was stopped must not count as failed. */
export async function neverIfAborted(interrupted: AbortSignal): Promise<void> {
  if (interrupted.aborted) await new Promise(() => {});
}

/** For example "  7.1 s". */
export function secondsSince(startMs: number): string {
  return `${((performance.now() - startMs) / 1000).toFixed(1).padStart(5)} s`;
}
