/** The cases of a run, and the task of each case. */
import type { FamilyName } from "./models/family.ts";
import { benchPrompt } from "./prompts.ts";
import type { EngineName, Mode, BenchEngineOptions, Task } from "./engines/engine.ts";

export type Dtype = BenchEngineOptions["dtype"];

export interface BenchCase {
  readonly engine: EngineName;
  readonly mode: Mode;
  readonly dtype: Dtype;
  /** Prompt tokens. */
  readonly context: number;
  /** Sequences in the batch. */
  readonly batch: number;
}

export interface Plan {
  readonly family: FamilyName;
  readonly dtypes: readonly Dtype[];
  readonly contexts: readonly number[];
  readonly batches: readonly number[];
  /** Number of rounds for a context length: prefilling long prompts takes most of the time. */
  readonly rounds: (context: number) => number;
  /** Jobs of the soak test. */
  readonly jobs: number;
}

export const FULL: Plan = {
  family: "inflated",
  dtypes: ["fp32", "int8"],
  contexts: [128, 1024],
  batches: [4, 8, 16],
  rounds: (context) => (context > 512 ? 3 : 7),
  jobs: Number(process.env.JOBS ?? 10_000),
};

export const QUICK: Plan = {
  family: "demo",
  dtypes: ["fp32", "int8"],
  contexts: [128, 1024],
  batches: [4, 8, 16],
  rounds: (context) => (context > 512 ? 1 : 3),
  jobs: 300,
};

/** Tokens to generate for each prompt: alone, in a batch, and at most with speculation, where answers may end earlier. */
const TOKENS = 24;
const BATCH_TOKENS = 12;
const SPECULATIVE_TOKENS_MAX = 48;

export function benchCases({ batches }: Plan, dtype: Dtype, context: number): BenchCase[] {
  const create = (engine: EngineName, mode: Mode, batch = 1): BenchCase => ({
    engine,
    mode,
    dtype,
    context,
    batch,
  });
  return [
    create("transformers", "base"),
    create("naive", "proxy"),
    create("llama", "base"),
    create("trimtab", "base"),
    create("trimtab", "proxy"),
    create("trimtab", "speculative"),
    ...batches.flatMap((batch) => [
      create("trimtab", "base", batch),
      create("trimtab", "proxy", batch),
    ]),
  ];
}

/** @param round each round has other questions; they are the same for all engines */
export function benchTask({ mode, context, batch }: BenchCase, round: number): Task {
  // With speculation an answer may end early, so several are generated one after the other.
  const count = mode === "speculative" ? (context > 512 ? 3 : 8) : batch;
  const prompts = Array.from({ length: count }, (_, i) => benchPrompt(context, round * 31 + i));
  const tokens =
    mode === "speculative" ? SPECULATIVE_TOKENS_MAX : batch > 1 ? BATCH_TOKENS : TOKENS;
  return { mode, prompts, tokens };
}
