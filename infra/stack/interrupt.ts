/** Stops a command early: on Ctrl-C, SIGTERM, a closed terminal, or the end of the process that started it (bootstrap.mjs). */
import { errorText } from "./user-error.ts";
import { stopAllChildren } from "./process.ts";

/** By convention a shell reports 128 plus the signal's number. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/**
 * On the first of these events it aborts the returned signal, calls `before`, stops all children and ends this process.
 * Later events are ignored.
 */
export function stopOnInterrupt(before: () => Promise<void> | void = () => {}): AbortSignal {
  const interrupted = new AbortController();
  const stop = async (exitCode: number) => {
    if (interrupted.signal.aborted) return;
    interrupted.abort();
    try {
      await before();
    } catch (error) {
      console.error(errorText(error));
    }
    await stopAllChildren();
    process.exit(exitCode);
  };
  for (const [signal, exitCode] of Object.entries(EXIT_CODES)) {
    process.on(signal, () => void stop(exitCode));
  }
  process.once("disconnect", () => void stop(1));
  // The channel to the parent must not keep this process alive when its work is done.
  process.channel?.unref();
  return interrupted.signal;
}
