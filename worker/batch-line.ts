/** A line of a batch: from its text to its request, and from how its jobs ended to its result. */
import { BatchLine, type BatchEndpoint, type BatchResult } from "../shared/batch-contract.ts";
import type { BatchRecord, OpenLine } from "../shared/batch-store.ts";
import type { Usage } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import { LIMITS } from "../shared/limits.ts";
import { endedChoice, PROTOCOLS, type EndedJob } from "../shared/protocols.ts";
import { parseRequest } from "../shared/validate.ts";
import { requireSuccess, usageOf } from "../shared/whole-answer.ts";
import type { Line } from "./input-lines.ts";

/** The line's (first) job: the same, whoever makes it and however often. */
export const lineJobId = (batchId: string, line: number) =>
  `${batchId.replace(/^batch_/, "job_")}-${line}`;

/** @throws AppError invalid_request, unsupported_parameter, payload_too_large */
export function requestOf({ text }: Line, endpoint: BatchEndpoint): BatchLine {
  if (text === null) {
    const message = `A line must be UTF-8 and have at most ${LIMITS.bodyBytesMax} bytes`;
    throw new AppError("payload_too_large", message);
  }
  const request = parseRequest(BatchLine, jsonOf(text));
  if (request.url !== endpoint) {
    const message = `url must be the batch's endpoint, ${endpoint}`;
    throw new AppError("invalid_request", message, { param: "url" });
  }
  if (request.body.stream === true) {
    const message = "body.stream must be false: a batch is answered when it ended";
    throw new AppError("invalid_request", message, { param: "body.stream" });
  }
  return request;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AppError("invalid_request", "The line is not valid JSON");
  }
}

/** What the line calls itself, however wrong the rest of it is; null if that cannot be told. */
export function nameOf({ text }: Line): string | null {
  try {
    const { custom_id } = JSON.parse(text ?? "") as { custom_id?: unknown };
    const isName = typeof custom_id === "string" && custom_id.length <= LIMITS.customIdCharsMax;
    return isName ? custom_id : null;
  } catch {
    return null;
  }
}

/** A result, but for which line it is of. */
type Said = Pick<BatchResult, "response" | "error">;

/** What the caller would have been answered, had the line been a request by itself. */
export function refusal(error: AppError, jobId: string): Said {
  const response = { status_code: error.status, request_id: jobId, body: error.toBody() };
  return { response, error: null };
}

const CUT_OFF: Readonly<Record<string, string>> = {
  cancelled: "The batch was cancelled before this request ended",
  expired: "The batch expired before this request ended",
};

/** Of a line that the end of the batch came before; null if the batch is not ending so. */
export function cutOff({ ending }: BatchRecord): Said | null {
  const message = CUT_OFF[ending];
  return message === undefined
    ? null
    : { response: null, error: { code: `batch_${ending}`, message } };
}

export function resultOf(
  batchId: string,
  line: number,
  customId: string | null,
  said: Said,
): BatchResult {
  return { id: `${batchId.replace("_", "_req_")}-${line}`, custom_id: customId, ...said };
}

/** How a line ended whose jobs all ended. */
export function outcomeOf(
  batch: BatchRecord,
  jobs: readonly [EndedJob, ...EndedJob[]],
  { n }: OpenLine,
): { readonly state: "completed" | "failed"; readonly said: Said; readonly usage: Usage } {
  const ends = jobs.map((job) => endedChoice(job).end);
  const usage = usageOf(ends, n);
  const [{ record }] = jobs;
  try {
    ends.forEach(requireSuccess);
    const body = PROTOCOLS[batch.endpoint].answer(jobs, n);
    const response = { status_code: 200, request_id: record.id, body };
    return { state: "completed", said: { response, error: null }, usage };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const isCutOff = error.code === "job_cancelled" || error.code === "deadline_exceeded";
    const said = (isCutOff && cutOff(batch)) || refusal(error, record.id);
    return { state: "failed", said, usage };
  }
}
