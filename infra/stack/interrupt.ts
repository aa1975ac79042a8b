/** Ending early: Ctrl-C, SIGTERM, a closed terminal, or the loss of the process that started us (bootstrap.mjs). */
import { explain } from "./problem.ts";
import { stopAllChildren } from "./process.ts";

/** Exit code of a shell for a process that a signal ended. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/**
 * At the first such event aborts the returned signal, calls `before` (if given), and ends all children and this process.
 * Later events change nothing.
 */
export function stopOnInterrupt(before: () => Promise<void> | void = () => {}): AbortSignal {
  const interrupted = new AbortController();
  const stop = async (exitCode: number) => {
    if (interrupted.signal.aborted) return;
    interrupted.abort();
    try {
      await before();
    } catch (error) {
      console.error(explain(error));
    }
    await stopAllChildren();
    process.exit(exitCode);
  };
  for (const [signal, exitCode] of Object.entries(EXIT_CODES)) {
    process.on(signal, () => void stop(exitCode));
  }
  process.once("disconnect", () => void stop(1));
  // Listening must not keep a process alive that has nothing left to do.
  process.channel?.unref();
  return interrupted.signal;
}
