/** One stage, as the messages between its process (stage-process.ts) and the run (run.ts) describe it. */
import type { ExecutionProvider } from "../../worker/engine-client/messages.ts";
import type { FamilyName } from "../bench/models/family.ts";

export const PROVIDERS = ["cpu", "cuda", "webgpu"] as const satisfies readonly ExecutionProvider[];
export const STAGE_NAMES = ["models", "provider", "golden", "transfer", "cache", "speed"] as const;
export type StageName = (typeof STAGE_NAMES)[number];

/** A line of a stage's table: texts and numbers by column. */
export type Row = Readonly<Record<string, string | number>>;

export interface StageOptions {
  readonly stage: StageName;
  readonly provider: ExecutionProvider;
  readonly family: FamilyName;
  /** The stage starts nothing new after this time. */
  readonly seconds: number;
}

export interface StageInput extends StageOptions {
  readonly isLate: () => boolean;
}

/** Yields rows as soon as they are measured, so that a crash leaves the earlier ones. */
export type Stage = (input: StageInput) => AsyncGenerator<Row, void, undefined>;

export type StageMessage =
  | { readonly type: "row"; readonly row: Row }
  | { readonly type: "failed"; readonly reason: string };

export interface StageResult {
  readonly stage: StageName;
  readonly provider: ExecutionProvider;
  readonly seconds: number;
  /** Null if the stage ran to its end. */
  readonly error: string | null;
  readonly rows: readonly Row[];
}

export const errorLine = (error: unknown) =>
  (error instanceof Error ? error.message : String(error)).trim().replaceAll(/\s+/g, " ");
