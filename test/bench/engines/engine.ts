/**
 * The interface of a measured engine: one engine with one model family in one weight format. Each runs in its own process
 * (process.ts), so that engines share neither threads nor memory, and takes one task at a time over the IPC channel.
 */
import { sampling } from "../../support/sampling.ts";
import type { ExecutionProvider } from "../../../worker/engine-client/messages.ts";
import type { Dtype } from "../../../worker/engine/model/graph-files.ts";
import type { FamilyName } from "../models/family.ts";

export const ENGINE_NAMES = ["trimtab", "naive", "transformers", "llama"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];
/** The base alone; proxy-tuned; proxy-tuned with speculative decoding. */
export type Mode = "base" | "proxy" | "speculative";

export interface BenchEngineOptions {
  readonly engine: EngineName;
  readonly family: FamilyName;
  readonly dtype: Extract<Dtype, "fp32" | "int8">;
  /** Of trimtab; "cpu" if absent. */
  readonly executionProvider?: ExecutionProvider;
}

export interface Task {
  readonly mode: Mode;
  /** Token ids. Several are one batch; in mode speculative they run one after the other, each to its end-of-sequence token. */
  readonly prompts: readonly (readonly number[])[];
  /** Tokens to generate for each prompt, the first one included. */
  readonly tokens: number;
}

export interface Sample {
  /** Time of decoding all sequences, without the first token of each. */
  readonly decodeMs: number;
  readonly decodedTokens: number;
  /** Time from the start of the task to the first token; null for batches. */
  readonly firstTokenMs: number | null;
  /** Drafted tokens, and how many of them were accepted. */
  readonly drafted: number;
  readonly accepted: number;
}

export interface BenchEngine {
  /** @throws Error with the reason if the engine cannot do this */
  measure(task: Task): Promise<Sample>;
}

export type EngineMessage =
  | { readonly type: "ready"; readonly loadMs: number; readonly rssBytes: number }
  | { readonly type: "sample"; readonly sample: Sample; readonly rssBytesMax: number }
  | { readonly type: "failed"; readonly reason: string };

/** Sampling options for greedy decoding. */
export const GREEDY = sampling({ temperature: 0 });
/** Steering strength of gsm-mini. */
export const ALPHA = 1;
