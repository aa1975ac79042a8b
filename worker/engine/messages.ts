/** What the main thread and the engine thread say to each other. Everything in here is structured-cloned. */
import type { FinishReason } from "../../shared/contract.ts";
import type { ErrorCode } from "../../shared/errors.ts";
import type { Generation, ModelCard } from "../../shared/job.ts";
import type { TokenReport } from "../../shared/reports.ts";
import type { SessionOptions } from "../model/session.ts";
import type { Figures } from "./figures.ts";
import { noDrafts, type DraftCounts } from "../decode/draft.ts";

/** Options of the engine thread, given when it starts. */
export interface EngineOptions extends SessionOptions {
  readonly manifestFile: string;
  /** Bytes of all KV caches together. */
  readonly cacheBytesMax: number;
  /** Bytes of the prefixes that are kept beside them; 0 keeps none. */
  readonly prefixBytesMax: number;
}

/** A generation to run, under a number that the client chose. */
export interface StartRequest {
  readonly type: "start";
  readonly run: number;
  readonly tenant: string;
  readonly generation: Generation;
  /** Tokens that an earlier attempt has generated. */
  readonly resume: readonly number[];
}

export type ToEngine =
  | StartRequest
  | { readonly type: "stop"; readonly run: number }
  | { readonly type: "exit" };

/** One token, and the text that it made final. */
export interface TokenEvent {
  readonly type: "token";
  readonly token: number;
  readonly text: string;
  /** What was asked to be told of it. */
  readonly report?: TokenReport;
}

/** The run has its place in the batch: its prompt is read. */
export interface PrefillEvent {
  readonly type: "prefill";
  readonly promptTokens: number;
}

/** What a run took, in tokens. */
export interface Used {
  readonly promptTokens: number;
  /** Tokens of the prompt whose rows an earlier one had left. */
  readonly cachedTokens: number;
  readonly drafts: DraftCounts;
}

export const NOTHING_USED: Used = {
  promptTokens: 0,
  cachedTokens: 0,
  drafts: noDrafts(),
};

/** How a run ended; always the last event of a run. */
export type EndEvent =
  | {
      readonly type: "end";
      /** Null if it was stopped from outside. */
      readonly finish: FinishReason | null;
      readonly used: Used;
    }
  | {
      readonly type: "failed";
      readonly code: ErrorCode;
      readonly message: string;
      readonly used: Used;
    };

export type RunEvent = PrefillEvent | TokenEvent | EndEvent;

export function isLast(event: RunEvent): event is EndEvent {
  return event.type === "end" || event.type === "failed";
}

export type FromEngine =
  | {
      readonly type: "ready";
      readonly cards: readonly ModelCard[];
      /** What works, but slower than it could. */
      readonly warnings: readonly string[];
    }
  | { readonly type: "unfit"; readonly reason: string }
  | { readonly type: "run"; readonly run: number; readonly event: RunEvent }
  | { readonly type: "figures"; readonly figures: Figures };
