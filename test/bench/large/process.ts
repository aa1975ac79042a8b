/** `node process.ts FOLDER STAGE`: loads a large model, and measures its steps; the parent process watches the memory. */
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import type { Decoder } from "../../../worker/engine/decoder/decoder.ts";

export type Stage = "prepare" | "load";

export interface StageTimes {
  readonly loadSeconds: number;
  /** Processor time. */
  readonly loadCpuSeconds: number;
  /** Processor time of a run on one thread, in ms; empty for the stage `prepare`. */
  readonly stepCpuMs: Readonly<Record<string, number>>;
}

const CONTEXT_TOKENS = 128;
const WARM_UP_STEPS = 2;
const STEPS = 9;

const [folder, stage] = process.argv.slice(2) as [string, Stage];
const [startedMs, startedCpu] = [performance.now(), process.cpuUsage()];
const decoder = await loadDecoder(folder, { dtype: "int8", intraOpThreads: 1 });
const { user, system } = process.cpuUsage(startedCpu);
const times: StageTimes = {
  loadSeconds: (performance.now() - startedMs) / 1000,
  loadCpuSeconds: (user + system) / 1e6,
  stepCpuMs: stage === "load" ? await measureSteps(decoder) : {},
};
process.send!(times);
process.disconnect();

async function measureSteps(decoder: Decoder): Promise<Record<string, number>> {
  const sequence = decoder.open();
  const ids = (count: number) => Array.from({ length: count }, (_, i) => 1 + i);
  await decoder.prefill(sequence, ids(CONTEXT_TOKENS));
  const runs = {
    "one token": () => decoder.decode([{ sequence, id: 5 }]),
    "five tokens": () => decoder.score(sequence, ids(5)),
  };
  const results: Record<string, number> = {};
  for (const [name, run] of Object.entries(runs)) {
    const tokens = name === "one token" ? 1 : 5;
    const samples: number[] = [];
    for (let i = 0; i < WARM_UP_STEPS + STEPS; i++) {
      const before = process.cpuUsage();
      await run();
      const { user, system } = process.cpuUsage(before);
      decoder.rewind!(sequence, tokens);
      if (i >= WARM_UP_STEPS) samples.push((user + system) / 1000);
    }
    results[name] = samples.toSorted((a, b) => a - b)[STEPS >> 1]!;
  }
  return results;
}
