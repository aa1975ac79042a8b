/** A module to preload into a worker process: it kills the process whenever the engine gets a job with this seed. */
import { Worker } from "node:worker_threads";
import type { ToEngine } from "../../worker/engine-client/messages.ts";

export const POISON_SEED = 666;

const post = Reflect.get<Worker, "postMessage">(Worker.prototype, "postMessage");
Worker.prototype.postMessage = function (this: Worker, message: ToEngine) {
  if (message.type === "start" && message.prepared.generation.seed === POISON_SEED) {
    process.kill(process.pid, "SIGKILL");
  }
  post.call(this, message);
};
