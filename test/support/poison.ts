/** Loaded into a worker before its own code: the process dies at once whenever the engine is given a job of this seed. */
import { Worker } from "node:worker_threads";
import type { ToEngine } from "../../worker/engine/messages.ts";

export const POISON_SEED = 666;

const post = Reflect.get<Worker, "postMessage">(Worker.prototype, "postMessage");
Worker.prototype.postMessage = function (this: Worker, message: ToEngine) {
  if (message.type === "start" && message.generation.seed === POISON_SEED) {
    process.kill(process.pid, "SIGKILL");
  }
  post.call(this, message);
};
