/**
 * Preloaded into the worker of `npm run profile:serving`: writes a line for each run of a model. A run blocks the engine thread, so what
 * this thread's processor time is without them is the engine's own work.
 */
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { isMainThread } from "node:worker_threads";

/** Environment variable with the path of the file. */
export const RUN_LOG_VARIABLE = "TRIMTAB_RUN_LOG";

export interface ModelRun {
  /** Number of the session, from 0 in the order of first runs. */
  readonly session: number;
  /** Since 1970. */
  readonly startMs: number;
  readonly wallMs: number;
  /** Processor time of the engine thread. */
  readonly cpuMs: number;
}

/** The part of onnxruntime-node's native binding that runs a graph. */
interface Binding {
  readonly binding: { InferenceSession: new () => NativeSession };
}
interface NativeSession {
  run(...args: unknown[]): unknown;
}

const path = process.env[RUN_LOG_VARIABLE];
if (!isMainThread && path !== undefined) await logRuns(openSync(path, "a"));

async function logRuns(file: number): Promise<void> {
  // Turns telemetry off before the library is loaded.
  await import("../../../worker/engine/onnxruntime/onnxruntime.ts");
  const { binding } = createRequire(import.meta.url)("onnxruntime-node/dist/binding") as Binding;
  const sessions: unknown[] = [];
  binding.InferenceSession = class extends binding.InferenceSession {
    override run(...args: unknown[]): unknown {
      const [startMs, before] = [performance.now(), process.threadCpuUsage()];
      const results = super.run(...args);
      const { user, system } = process.threadCpuUsage(before);
      if (!sessions.includes(this)) sessions.push(this);
      const line: ModelRun = {
        session: sessions.indexOf(this),
        startMs: performance.timeOrigin + startMs,
        wallMs: performance.now() - startMs,
        cpuMs: (user + system) / 1000,
      };
      writeSync(file, `${JSON.stringify(line)}\n`);
      return results;
    }
  };
}
