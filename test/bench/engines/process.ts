/**
 * The process of one engine: `node process.ts OPTIONS`, with `BenchEngineOptions` as JSON. It loads the engine, then runs each
 * task that the parent process sends and replies with a sample.
 */
import { loadNaive } from "./naive.ts";
import { loadTrimtab } from "./trimtab.ts";
import type { EngineName, EngineMessage, BenchEngine, BenchEngineOptions, Task } from "./engine.ts";

const LOADERS: Record<EngineName, (options: BenchEngineOptions) => Promise<BenchEngine>> = {
  trimtab: loadTrimtab,
  naive: loadNaive,
  // Imported on demand, because their packages may not be installed.
  transformers: async (options) =>
    (await import("../peers/transformers.ts")).loadTransformers(options),
  llama: async (options) => (await import("../peers/llama.ts")).loadLlama(options),
};

const send = (message: EngineMessage) => process.send!(message);
const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

const options = JSON.parse(process.argv[2]!) as BenchEngineOptions;
try {
  const startedMs = performance.now();
  const engine = await LOADERS[options.engine](options);
  const rssBytes = process.memoryUsage.rss();
  process.on("message", (task: Task) => {
    engine.measure(task).then(
      (sample) =>
        send({ type: "sample", sample, rssBytesMax: process.resourceUsage().maxRSS * 1024 }),
      (error: unknown) => send({ type: "failed", reason: messageOf(error) }),
    );
  });
  send({ type: "ready", loadMs: performance.now() - startedMs, rssBytes });
} catch (error) {
  send({ type: "failed", reason: messageOf(error) });
  process.disconnect();
}
