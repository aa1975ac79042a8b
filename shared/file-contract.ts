/** The public wire contract of files. Times are Unix seconds. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";

const { fileSecondsMin, fileSecondsMax } = LIMITS;

/** When a file is deleted, counted from its creation. */
export const ExpiresAfter = v.strictObject({
  anchor: v.literal("created_at"),
  seconds: v.pipe(v.number(), v.integer(), v.minValue(fileSecondsMin), v.maxValue(fileSecondsMax)),
});

/** The fields of `POST /v1/files` beside the file. */
export const FileRequest = v.strictObject({
  purpose: v.literal("batch"),
  expires_after: v.optional(ExpiresAfter),
});

export interface FileObject {
  readonly id: string;
  readonly object: "file";
  readonly bytes: number;
  readonly created_at: number;
  readonly expires_at: number;
  readonly filename: string;
  readonly purpose: "batch" | "batch_output";
  readonly status: "processed";
}
