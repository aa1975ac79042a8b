/**
 * A module to preload into a worker process: the engine thread stays in a native call for hours when it gets a job with this
 * seed. JavaScript cannot interrupt it, and an ordinary exit of the process would wait for it.
 */
import { pbkdf2Sync } from "node:crypto";
import { isMainThread, parentPort } from "node:worker_threads";
import type { ToEngine } from "../../worker/engine-client/messages.ts";

export const HANG_SEED = 777;

if (!isMainThread) {
  parentPort?.on("message", (message: ToEngine) => {
    if (message.type !== "start" || message.prepared.generation.seed !== HANG_SEED) return;
    pbkdf2Sync("", "", 2 ** 31 - 1, 64, "sha512");
  });
}
