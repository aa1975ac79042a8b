/** One line of a batch: parses its text into a request, and turns its ended jobs, or an error, into its result. */
import { BatchLine, type BatchEndpoint, type BatchResult } from "../../shared/api/batches.ts";
import type { BatchRecord, OpenLine } from "../../shared/batches/record.ts";
import type { Usage } from "../../shared/api/job-parts.ts";
import { AppError } from "../../shared/api/errors.ts";
import { parseJson } from "../../shared/api/json-text.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { endedChoice, PROTOCOLS, type EndedJob } from "../../shared/protocols/index.ts";
import { parseRequest } from "../../shared/submission/validate.ts";
import { requireSuccess, totalUsage } from "../../shared/protocols/whole-reply.ts";
import type { InputLine } from "./input-lines.ts";

/** Id of the line's first job. It depends only on the batch and the line, so a repeated step makes no second job. */
export const lineJobId = (batchId: string, line: number) =>
  `${batchId.replace(/^batch_/, "job_")}-${line}`;

/** Parses a line. @throws AppError invalid_request, unsupported_parameter, payload_too_large */
export function parseBatchLine({ text }: InputLine, endpoint: BatchEndpoint): BatchLine {
  if (text === null) {
    const message = `A line must be valid UTF-8 and have at most ${LIMITS.bodyBytesMax} bytes`;
    throw new AppError("payload_too_large", message);
  }
  const request = parseRequest(BatchLine, parseJson(text, "The line"));
  if (request.url !== endpoint) {
    const message = `url must be the batch's endpoint, ${endpoint}`;
    throw new AppError("invalid_request", message, { param: "url" });
  }
  if (request.body.stream === true) {
    const message = "body.stream must be false in a batch: results are written to its output file";
    throw new AppError("invalid_request", message, { param: "body.stream" });
  }
  return request;
}

/** The line's `custom_id`, even if the rest of the line is wrong; null if it cannot be read. */
export function readCustomId({ text }: InputLine): string | null {
  try {
    const { custom_id } = JSON.parse(text ?? "") as { custom_id?: unknown };
    const isValid = typeof custom_id === "string" && custom_id.length <= LIMITS.customIdCharsMax;
    return isValid ? custom_id : null;
  } catch {
    return null;
  }
}

/** A line's result without the ids of the line. */
type LineReply = Pick<BatchResult, "response" | "error">;

/** The response that a single request with this error would have had. */
export function errorReply(error: AppError, jobId: string): LineReply {
  const response = { status_code: error.status, request_id: jobId, body: error.toBody() };
  return { response, error: null };
}

const CUT_OFF_MESSAGES: Readonly<Record<string, string>> = {
  cancelled: "The batch was cancelled before this request ended",
  expired: "The batch expired before this request ended",
};

/** The result of a line that did not end before the batch was cancelled or expired; null if the batch ends otherwise. */
export function cutOffReply({ ending }: BatchRecord): LineReply | null {
  const message = CUT_OFF_MESSAGES[ending];
  return message === undefined
    ? null
    : { response: null, error: { code: `batch_${ending}`, message } };
}

/** A line of the result files. */
export function toBatchResult(
  batchId: string,
  line: number,
  customId: string | null,
  reply: LineReply,
): BatchResult {
  return { id: `${batchId.replace("_", "_req_")}-${line}`, custom_id: customId, ...reply };
}

/** State, result and usage of a line whose jobs have all ended. */
export function lineOutcome(
  batch: BatchRecord,
  jobs: readonly [EndedJob, ...EndedJob[]],
  { n }: OpenLine,
): { readonly state: "completed" | "failed"; readonly reply: LineReply; readonly usage: Usage } {
  const ends = jobs.map((job) => endedChoice(job).end);
  const usage = totalUsage(ends, n);
  const [{ record }] = jobs;
  try {
    const protocol = PROTOCOLS[batch.endpoint];
    ends.forEach((end) => requireSuccess(end, { prompt: protocol.promptField }));
    const body = protocol.toReply(jobs, n);
    const response = { status_code: 200, request_id: record.id, body };
    return { state: "completed", reply: { response, error: null }, usage };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const isCutOff = error.code === "job_cancelled" || error.code === "deadline_exceeded";
    const reply = (isCutOff && cutOffReply(batch)) || errorReply(error, record.id);
    return { state: "failed", reply, usage };
  }
}
