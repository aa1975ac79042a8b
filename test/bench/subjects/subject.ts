/**
 * What is measured: one engine with one family in one weight format, in a process of its own, so that no engine's threads
 * or memory are another's. The process is asked for one measurement at a time over its IPC channel.
 */
import { sampling } from "../../support/sampling.ts";
import type { Dtype } from "../../../worker/model/files.ts";
import type { Family } from "../models/family.ts";

export const ENGINES = ["ours", "naive", "transformers", "llama"] as const;
export type Engine = (typeof ENGINES)[number];
/** The base alone, or steered by expert and antiexpert, without and with drafting ahead. */
export type Mode = "base" | "proxy" | "speculative";

export interface SubjectOptions {
  readonly engine: Engine;
  readonly family: Family;
  readonly dtype: Extract<Dtype, "fp32" | "int8">;
}

export interface Task {
  readonly mode: Mode;
  /** Together as a batch if there are several; one after the other, each to its end token, in mode speculative. */
  readonly prompts: readonly (readonly number[])[];
  /** Tokens to generate for each prompt, the first one included. */
  readonly tokens: number;
}

export interface Sample {
  /** Decoding without the first token, of all rows together. */
  readonly decodeMs: number;
  readonly decodedTokens: number;
  /** From the request to its first token; null for batches. */
  readonly firstTokenMs: number | null;
  /** Drafted tokens and those of them that were right. */
  readonly drafted: number;
  readonly accepted: number;
}

export interface Subject {
  /** Says what the engine cannot do by throwing. */
  measure(task: Task): Promise<Sample>;
}

export type FromSubject =
  | { readonly type: "ready"; readonly loadMs: number; readonly rssBytes: number }
  | { readonly type: "sample"; readonly sample: Sample; readonly rssBytesMax: number }
  | { readonly type: "failed"; readonly reason: string };

/** Sampling that takes the likeliest token. */
export const GREEDY = sampling({ temperature: 0 });
/** gsm-mini's own strength of the shift. */
export const ALPHA = 1;
