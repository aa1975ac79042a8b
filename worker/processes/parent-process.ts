/** The generating process's side of the channel to its parent process. */
import { once } from "node:events";
import {
  REPLACEMENT,
  type Answer,
  type Keep,
  type ProcessState,
  type Question,
} from "./messages.ts";

/** Whether a worker process started this process. */
export const hasParentProcess = () => process.send !== undefined;

/** Ends this process at once when the parent process is gone. It does nothing without a parent process. */
export function endWithParentProcess(): void {
  if (!hasParentProcess()) return;
  // Other workers take over the jobs.
  if (!process.connected) killThisProcess();
  process.on("disconnect", killThisProcess);
}

/** Ends this process at once. An ordinary exit waits for the engine's step. */
export function killThisProcess(): void {
  process.kill(process.pid, "SIGKILL");
}

/** Tells the parent process, if there is one, that this process has started. */
export function reportStarted(): void {
  send({ id: 0, state: { problem: null, away: {}, metrics: [] } });
}

/** Gives the parent process, if there is one, a text for the process that takes this one's place if it is lost. */
export function keepForReplacement(text: string): void {
  send({ keep: text });
}

/** The text that the process before this one has kept; null if there was none. It must be called before `answerParentProcess`. */
export async function keptText(): Promise<string | null> {
  if (!hasParentProcess() || process.argv[2] !== REPLACEMENT) return null;
  const [{ keep }] = (await once(process, "message")) as [Keep];
  return keep;
}

/** A parent process that ends at this moment closes the channel: this process ends then too (`endWithParentProcess`). */
function send(answer: Answer | Keep): void {
  process.send?.(answer, undefined, undefined, () => {});
}

/** Answers the questions of the parent process. */
export function answerParentProcess(
  readState: (withMetrics: boolean) => Promise<ProcessState>,
): void {
  process.on("message", ({ id, withMetrics }: Question) => {
    readState(withMetrics).then(
      (state) => send({ id, state }),
      () => {},
    );
  });
}
