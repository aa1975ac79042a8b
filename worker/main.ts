/**
 * A worker process. This file imports almost nothing: as process 1 of a container, Node ignores a signal without a listener, so the
 * listener must be there before the other modules are loaded, which takes about half a second. The start goes on in start.ts.
 */
import { logUncaughtErrors } from "../shared/fatal-error.ts";
import { listenForStop } from "./processes/stop-signal.ts";

logUncaughtErrors(process, process.stdout, "The worker");
const stop = listenForStop();
const { start } = await import("./start.ts");
await start(import.meta.filename, stop);
