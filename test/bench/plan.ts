/** Which cases are measured, and how a case is run. */
import type { FamilyName } from "./models/family.ts";
import { promptOf } from "./prompts.ts";
import type { Engine, Mode, SubjectOptions, Task } from "./subjects/subject.ts";

export type Dtype = SubjectOptions["dtype"];

export interface Case {
  readonly engine: Engine;
  readonly mode: Mode;
  readonly dtype: Dtype;
  /** Tokens before the first generated one. */
  readonly context: number;
  readonly batch: number;
}

export interface Plan {
  readonly family: FamilyName;
  readonly dtypes: readonly Dtype[];
  readonly contexts: readonly number[];
  readonly batches: readonly number[];
  /** Rounds by context: prefilling long prompts takes most of the time. */
  readonly rounds: (context: number) => number;
  /** Jobs of the leak test. */
  readonly jobs: number;
}

export const FULL: Plan = {
  family: "inflated",
  dtypes: ["fp32", "int8"],
  contexts: [128, 1024],
  batches: [4, 8, 16],
  rounds: (context) => (context > 512 ? 3 : 7),
  jobs: 10_000,
};

export const QUICK: Plan = {
  family: "demo",
  dtypes: ["fp32", "int8"],
  contexts: [128, 1024],
  batches: [4, 8, 16],
  rounds: (context) => (context > 512 ? 1 : 3),
  jobs: 300,
};

const TOKENS = 24;
const BATCH_TOKENS = 12;
/** Answers end by themselves, so tokens are gathered over several. */
const ANSWER_TOKENS = 48;

export function casesOf({ batches }: Plan, dtype: Dtype, context: number): Case[] {
  const of = (engine: Engine, mode: Mode, batch = 1): Case => ({
    engine,
    mode,
    dtype,
    context,
    batch,
  });
  return [
    of("transformers", "base"),
    of("naive", "proxy"),
    of("llama", "base"),
    of("ours", "base"),
    of("ours", "proxy"),
    of("ours", "speculative"),
    ...batches.flatMap((batch) => [of("ours", "base", batch), of("ours", "proxy", batch)]),
  ];
}

/** @param round gives every round other questions, the same for all engines */
export function taskOf({ mode, context, batch }: Case, round: number): Task {
  const answers = context > 512 ? 3 : 8;
  const count = mode === "speculative" ? answers : batch;
  const prompts = Array.from({ length: count }, (_, i) => promptOf(context, round * 31 + i));
  const tokens = mode === "speculative" ? ANSWER_TOKENS : batch > 1 ? BATCH_TOKENS : TOKENS;
  return { mode, prompts, tokens };
}
