/** Ending early: Ctrl-C, SIGTERM, a closed terminal, or the loss of the process that started us (bootstrap.mjs). */
import { explain } from "./problem.ts";
import { stopAllChildren } from "./process.ts";

/** Exit code of a shell for a process that a signal ended. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** At the first such event calls `say` (if given), ends all children and this process; later events change nothing. */
export function stopOnInterrupt(say: () => void = () => {}): void {
  let stopping = false;
  const stop = (exitCode: number) => {
    if (stopping) return;
    stopping = true;
    say();
    stopAllChildren()
      .catch((error: unknown) => console.error(explain(error)))
      .finally(() => process.exit(exitCode));
  };
  for (const [signal, exitCode] of Object.entries(EXIT_CODES)) {
    process.on(signal, () => stop(exitCode));
  }
  process.once("disconnect", () => stop(1));
}
