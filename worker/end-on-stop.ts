/** The end of a worker process after SIGTERM or SIGINT. */
import { setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import type { Part } from "./part.ts";

/** Longest wait at exit for the last spans to be sent: the trace collector may not answer. */
const TRACING_STOP_MS = 2_000;

interface EndOptions {
  /** Time for the drain. */
  readonly seconds: number;
  readonly log: Logger;
  readonly stopTracing: () => Promise<unknown>;
  /** Settles when the models are loaded; null if none is loaded now. */
  readonly starting: () => Promise<unknown> | null;
}

/** Ends the process when `stop` is aborted. @param parts those that have started by then are stopped first */
export function endOnStop(stop: AbortSignal, parts: readonly Part[], options: EndOptions): void {
  const { seconds, log, stopTracing, starting } = options;
  const report = (error: unknown) =>
    log.error({ err: error }, "A part of the worker could not be stopped");
  const drain = async () => {
    const drained = Promise.all(parts.map((part) => part.close())).catch(report);
    // Another worker continues the jobs that still run then, from their event logs.
    await Promise.race([drained, setTimeout(seconds * 1000)]);
    for (const part of parts) await part.end?.().catch(report);
    await Promise.race([stopTracing(), setTimeout(TRACING_STOP_MS)]);
  };
  const end = () => {
    log.info(
      { signal: stop.reason as string, seconds },
      "Draining: the worker takes no new work, and exits when its running work has ended",
    );
    // With nothing to drain it does not wait for the rest of the start, such as Redis. But onnxruntime aborts a process that exits while
    // a thread loads a model.
    const idle = async () => Promise.race([starting(), setTimeout(seconds * 1000)]);
    (parts.length === 0 ? idle() : drain()).catch(report).finally(() => process.exit(0));
  };
  if (stop.aborted) end();
  else stop.addEventListener("abort", end);
}
