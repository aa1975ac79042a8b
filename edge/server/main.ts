/**
 * The self-hosted edge as a program. This file imports almost nothing at first: as process 1 of a container, Node ignores a signal
 * without a listener, so the listeners must be there before the modules are loaded. The start goes on in start.ts.
 */
import { logUncaughtErrors } from "../../shared/fatal-error.ts";

logUncaughtErrors(process, process.stderr, "The edge");
const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.on(name, () => {
    // A second signal ends the process at once.
    if (stop.signal.aborted) process.exit(1);
    stop.abort(name);
  });
}
const { start } = await import("./start.ts");
await start(stop.signal);
