/** The process of one subject: `node process.ts OPTIONS`, the options as JSON. Loads, then measures what it is asked. */
import { loadNaive } from "./naive.ts";
import { loadOurs } from "./ours.ts";
import type { Engine, FromSubject, Subject, SubjectOptions, Task } from "./subject.ts";

const LOADERS: Record<Engine, (options: SubjectOptions) => Promise<Subject>> = {
  ours: loadOurs,
  naive: loadNaive,
  // What these import is installed on demand.
  transformers: async (options) =>
    (await import("../peers/transformers.ts")).loadTransformers(options),
  llama: async (options) => (await import("../peers/llama.ts")).loadLlama(options),
};

const tell = (message: FromSubject) => process.send!(message);
const reasonOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

const options = JSON.parse(process.argv[2]!) as SubjectOptions;
try {
  const startedMs = performance.now();
  const subject = await LOADERS[options.engine](options);
  const rssBytes = process.memoryUsage.rss();
  process.on("message", (task: Task) => {
    subject.measure(task).then(
      (sample) =>
        tell({ type: "sample", sample, rssBytesMax: process.resourceUsage().maxRSS * 1024 }),
      (error: unknown) => tell({ type: "failed", reason: reasonOf(error) }),
    );
  });
  tell({ type: "ready", loadMs: performance.now() - startedMs, rssBytes });
} catch (error) {
  tell({ type: "failed", reason: reasonOf(error) });
  process.disconnect();
}
