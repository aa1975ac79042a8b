/** Tokens per second and step times of the base alone, proxy-tuned and drafted sequences, alone and in batches. */
import type { Mode, Sample, Task } from "../../bench/engines/engine.ts";
import { loadTrimtab } from "../../bench/engines/trimtab.ts";
import { benchTask, type BenchCase } from "../../bench/plan.ts";
import { quantile } from "../../bench/statistics.ts";
import { errorLine, type Row, type StageInput } from "../stage.ts";

/** The most important ones first: the time may not be enough for all. */
const CASES: readonly (readonly [mode: Mode, batch: number, context: number])[] = [
  ["base", 1, 128],
  ["proxy", 1, 128],
  ["speculative", 1, 128],
  ["base", 8, 128],
  ["proxy", 8, 128],
  ["base", 1, 1024],
  ["proxy", 1, 1024],
  ["proxy", 4, 128],
  ["proxy", 16, 128],
  ["base", 16, 128],
  ["speculative", 1, 1024],
  ["proxy", 8, 1024],
];
const ROUNDS = 3;
const WARM_UP: Task = { mode: "proxy", prompts: [[2, 3, 4, 5]], tokens: 4 };

export async function* speed(input: StageInput): AsyncGenerator<Row, void, undefined> {
  const engine = await loadTrimtab({
    engine: "trimtab",
    family: input.family,
    dtype: "fp32",
    executionProvider: input.provider,
  });
  await engine.measure(WARM_UP);
  for (const [mode, batch, context] of CASES) {
    const columns = { rows: mode, batch, context };
    if (input.isLate()) {
      yield { ...columns, error: "left out: the time is used up" };
      continue;
    }
    const benchCase: BenchCase = { engine: "trimtab", dtype: "fp32", mode, batch, context };
    try {
      const samples: Sample[] = [];
      for (let round = 0; round < ROUNDS && !(round > 0 && input.isLate()); round++) {
        samples.push(await engine.measure(benchTask(benchCase, round)));
      }
      const median = (values: readonly number[]) =>
        quantile(
          values.toSorted((a, b) => a - b),
          0.5,
        );
      const tokenMs = median(samples.map((one) => one.decodeMs / one.decodedTokens));
      const firstTokensMs = samples.flatMap(({ firstTokenMs }) => firstTokenMs ?? []);
      const sum = (of: "drafted" | "accepted") => samples.reduce((all, one) => all + one[of], 0);
      yield {
        ...columns,
        rounds: samples.length,
        "tokens/s": 1000 / tokenMs,
        "ms per token": tokenMs,
        // Each step of a batch makes one token of each sequence. A step with drafts makes several, so it has no such time.
        "ms per step": mode === "speculative" ? "" : tokenMs * batch,
        "first token ms": firstTokensMs.length > 0 ? median(firstTokensMs) : "",
        "accepted drafts": sum("drafted") > 0 ? sum("accepted") / sum("drafted") : "",
      };
    } catch (error) {
      yield { ...columns, error: errorLine(error) };
    }
  }
}
