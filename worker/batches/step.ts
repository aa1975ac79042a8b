/**
 * One step of a batch: writes the results of lines whose jobs have ended, and submits jobs for more lines, up to the number
 * of lines that may be open at once. A step may be repeated, or done by two workers at once, without harm: job ids are made
 * from line numbers, and every write names the position in the batch that it starts from, so only the first has an effect.
 * It knows the stores, not the queue that brings the batch back for its next step.
 */
import { setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import type { Admission } from "../../shared/jobs/admission.ts";
import type { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import type { BatchEnd } from "../../shared/api/batches.ts";
import { toBatch } from "../../shared/batches/batch-reply.ts";
import { RESULT_FILE_FULL, ResultFileFull } from "../../shared/batches/result-file-full.ts";
import type { BatchRecord, OpenLine } from "../../shared/batches/record.ts";
import { isEnded, type BatchStore } from "../../shared/batches/store.ts";
import { isTerminal } from "../../shared/api/jobs.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { FileRecord } from "../../shared/files/record.ts";
import type { FileStore } from "../../shared/files/store.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import type { Job } from "../../shared/api/jobs.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { withSentRequest } from "../../shared/jobs/sent-request.ts";
import { NEVER_RAN, type JobStore } from "../../shared/jobs/store.ts";
import type { KeyRegistry } from "../../shared/keys/registry.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { PROTOCOLS, type EndedJob } from "../../shared/protocols/index.ts";
import type { Clock } from "../../shared/redis/clock.ts";
import { batchPoolId } from "../../shared/redis/keys.ts";
import { NewerRecord } from "../../shared/redis/version.ts";
import {
  submissionOf,
  type RequestContext,
  type Submission,
} from "../../shared/submission/submission.ts";
import { cancelLineJobs } from "./cancel-line.ts";
import { failLine, lineLost } from "./fail-line.ts";
import type { BatchResultFiles } from "./result-files.ts";
import {
  cutOffReply,
  lineJobId,
  readCustomId,
  lineOutcome,
  errorReply,
  parseBatchLine,
  toBatchResult,
} from "./line.ts";
import { isOutage } from "./step-faults.ts";
import { isBlankLine, readLines, type InputLine } from "./input-lines.ts";

/** One step reads this many lines at most, so that no step takes long. */
const STEP_LINES_MAX = 500;

/** Milliseconds: a usual line is checked within them. */
const BUSY_MS_MAX = 3;
/** A step rests this many times as long as a costly line took, so costly lines take a fifth of the main thread at most. */
const REST_FACTOR = 4;

export interface BatchStepDeps {
  readonly store: JobStore;
  readonly batches: BatchStore;
  readonly files: FileStore;
  readonly resultFiles: BatchResultFiles;
  readonly clock: Clock;
  readonly keys: KeyRegistry;
  /** Whether any model is known. Until then no line is read: an unknown model is a final result. */
  readonly hasModels: () => Promise<boolean>;
  readonly publisher: Pick<WebhookPublisher, "publishJobEnd" | "publishBatchEnd">;
  /** Makes the API's view of a job, which is the body of its webhooks. */
  readonly readJob: (record: JobRecord) => Promise<Job>;
  /** The context of a line's request, without the principal, which is the API key of each batch. */
  readonly requestContext: Omit<RequestContext, "principal">;
  /** Most lines of one batch whose jobs have not ended yet. */
  readonly openLinesMax: number;
  readonly log: Pick<Logger, "error">;
}

/**
 * Does one step. A batch whose results do not fit into their file fails.
 * @param isNextLineLost whether the next line fails without being checked
 * @returns whether the batch needs another step
 */
export async function stepBatch(
  deps: BatchStepDeps,
  id: string,
  isNextLineLost = false,
): Promise<boolean> {
  const batch = await deps.batches.get(id);
  if (batch === null) return false;
  if (isEnded(batch)) {
    await deps.publisher.publishBatchEnd(batch.tenant, toBatch(batch));
    return false;
  }
  try {
    await stepOpenBatch(deps, batch, isNextLineLost);
  } catch (error) {
    if (!(error instanceof ResultFileFull)) throw error;
    // Expired files are deleted first. If there were any, the next step tries again.
    if ((await deps.files.deleteExpired(batch.tenant)) === 0)
      await deps.batches.fail(id, RESULT_FILE_FULL);
  }
  return true;
}

/** @throws ResultFileFull */
async function stepOpenBatch(
  deps: BatchStepDeps,
  batch: BatchRecord,
  isNextLineLost: boolean,
): Promise<void> {
  const input = await deps.files.get(batch.tenant, batch.inputFileId);
  if (batch.ending !== "") await endBatch(deps, batch, input);
  else if (deps.clock.now() >= batch.deadlineMs) await deps.batches.finalize(batch.id, "expired");
  else if (input === null) await deps.batches.finalize(batch.id, "failed", INPUT_GONE);
  else if (batch.status === "validating") await validateInput(deps, batch, input);
  else await processLines(deps, batch, input, isNextLineLost);
}

const INPUT_GONE = { code: "input_file_not_found", message: "The input file was deleted" };

/** Counts the file's lines and starts the batch, or fails it. An invalid line fails later, as that line's result. */
async function validateInput(
  { batches, files }: BatchStepDeps,
  { id }: BatchRecord,
  input: FileRecord,
) {
  let total = 0;
  for await (const line of readLines(files.read(input), 0)) if (!isBlankLine(line)) total++;
  if (total > 0 && total <= LIMITS.batchLinesMax) return batches.begin(id, total);
  const message = `The input file must have 1 to ${LIMITS.batchLinesMax} lines; it has ${total}`;
  await batches.finalize(id, "failed", { code: "invalid_line_count", message });
}

async function processLines(
  deps: BatchStepDeps,
  batch: BatchRecord,
  input: FileRecord,
  isNextLineLost: boolean,
): Promise<void> {
  const { batches, keys, openLinesMax } = deps;
  const principal = await keys.get(batch.keyId);
  // The key was revoked, so its batches may not send requests any more either.
  if (principal === null) return batches.cancel(batch.id);
  const open = await batches.openLines(batch.id);
  await closeEndedLines(deps, batch, open);
  if (!(await deps.hasModels())) return;
  let room = openLinesMax - open.size;
  const context = { ...deps.requestContext, principal };
  const isRead = await readInput(deps, batch, input, async (line, current) => {
    if (room <= 0) return false;
    if (isNextLineLost && current.line === batch.line) {
      await failLine(batches, current, line, lineLost());
      return true;
    }
    const result = await openLine(deps, context, current, line);
    if (result === "open") room--;
    return result !== "waits";
  });
  if (isRead && open.size === 0 && room === openLinesMax)
    await batches.finalize(batch.id, "completed");
}

/** Ends the batch: cancels its open jobs, writes a result for each line that had no job, and completes the files. */
async function endBatch(deps: BatchStepDeps, batch: BatchRecord, input: FileRecord | null) {
  const { batches } = deps;
  const open = await batches.openLines(batch.id);
  for (const line of open.keys()) await cancelLineJobs(deps, batch.id, line);
  await closeEndedLines(deps, batch, open);
  // A batch that was cancelled before its lines were counted gets no results for them.
  const isRead =
    input === null ||
    batch.inProgressAtMs === null ||
    cutOffReply(batch) === null ||
    (await readInput(deps, batch, input, async (line, current) => {
      const reply = cutOffReply(current)!;
      const result = toBatchResult(batch.id, current.line + 1, readCustomId(line), reply);
      await batches.advance(
        current,
        { offset: line.endOffset, line: current.line + 1 },
        { failed: result },
      );
      return true;
    }));
  if (!isRead || open.size > 0) return;
  const latest = await batches.get(batch.id);
  if (latest === null) return;
  await deps.resultFiles.finish(latest);
  await batches.end(latest, latest.ending as BatchEnd);
}

/**
 * Reads lines from the batch's position on, and skips blank ones.
 * @param onLine handles a line; `current` is the batch at this line; returns false if the batch must wait here
 * @returns whether the end of the file was reached
 */
async function readInput(
  { batches, files, resultFiles }: BatchStepDeps,
  batch: BatchRecord,
  input: FileRecord,
  onLine: (line: InputLine, current: BatchRecord) => Promise<boolean>,
): Promise<boolean> {
  let current = batch;
  let left = STEP_LINES_MAX;
  for await (const line of readLines(files.read(input, batch.offset), batch.offset)) {
    if (left-- === 0) return false;
    const next = { offset: line.endOffset, line: current.line + 1 };
    if (isBlankLine(line)) await batches.advance(current, next, null);
    else if (!(await onLine(line, current))) return false;
    current = { ...current, ...next };
  }
  await resultFiles.uploadFullParts(batch);
  return true;
}

/** Submits the jobs of a line. The line fails if its request is refused, and waits while its key's limits have no room. */
async function openLine(
  deps: BatchStepDeps,
  context: RequestContext,
  batch: BatchRecord,
  line: InputLine,
): Promise<"open" | "failed" | "waits"> {
  const { batches, store } = deps;
  const number = batch.line + 1;
  const next = { offset: line.endOffset, line: number };
  const jobId = lineJobId(batch.id, number);
  const startedMs = performance.now();
  try {
    const { custom_id: customId, body } = parseBatchLine(line, batch.endpoint);
    if (!(await batches.claimCustomId(batch.id, customId, number))) {
      const message = "custom_id is already used by an earlier line";
      throw new AppError("invalid_request", message, { param: "custom_id" });
    }
    const request = await PROTOCOLS[batch.endpoint].toGenerationRequest(context, body);
    const job = { id: jobId, deadlineInMs: LIMITS.batchSeconds * 1000 };
    const requestOptions = { ...request.requestOptions, batch: batch.id };
    const submission = await submissionOf(context, { ...request, requestOptions }, job);
    await rest(performance.now() - startedMs);
    const sent = { endpoint: batch.endpoint, body: body as Record<string, unknown> };
    const jobs = withSentRequest(submission.jobs, sent).map((job) => ({
      ...job,
      deadlineMaxMs: batch.deadlineMs,
    }));
    const { status } = await store.submitAll(jobs, batchAdmission(submission));
    if (status === "limited" || status === "full") return "waits";
    await batches.advance(batch, next, { open: { customId, n: request.n } });
    return "open";
  } catch (error) {
    const failure = toLineError(deps, jobId, error);
    await failLine(batches, batch, line, failure);
    await rest(performance.now() - startedMs);
    return "failed";
  }
}

/**
 * Waits after a line that took long to check: lines are checked on the main thread, which also logs tokens and renews leases.
 * @param busyMs how long the line took
 */
async function rest(busyMs: number): Promise<void> {
  if (busyMs > BUSY_MS_MAX) await setTimeout(REST_FACTOR * busyMs);
}

/** The error in a line's result. @throws the error if it does not come from the line */
function toLineError({ log }: BatchStepDeps, jobId: string, error: unknown): AppError {
  if (error instanceof AppError) return error;
  // A line that refers to a job of a newer release is one for a worker of that release.
  const isOfNoLine = isOutage(error) || error instanceof ResultFileFull;
  if (isOfNoLine || error instanceof NewerRecord) throw error;
  log.error({ job: jobId, err: error }, "A line of a batch failed unexpectedly");
  return new AppError("internal", "An internal error occurred", { cause: error });
}

/**
 * The admission of a line's jobs. Batches have a rate limit pool beside the key's and of the same size, so they do not reduce
 * the limits of interactive requests. Lines do not count as requests, because the batch was counted as one.
 */
function batchAdmission({ admission: { pools, tokens } }: Submission): Admission {
  return {
    pools: pools.map(({ id, limits }) => ({
      id: batchPoolId(id),
      limits: { ...limits, requests_per_minute: null },
    })),
    tokens,
    idempotency: null,
  };
}

/**
 * Writes the results of lines whose jobs have all ended, and removes these lines from `open`. If the batch has failed because
 * a result file is full, results that do not fit are dropped.
 * @throws ResultFileFull
 */
async function closeEndedLines(
  deps: BatchStepDeps,
  batch: BatchRecord,
  open: Map<number, OpenLine>,
) {
  const { batches, resultFiles } = deps;
  const isFull = batch.failure?.code === RESULT_FILE_FULL.code;
  for (const [line, opened] of open) {
    const jobs = await readEndedJobs(deps, lineJobId(batch.id, line));
    if (jobs === null) continue;
    const { state, reply, usage } =
      jobs === "deleted"
        ? deletedJobOutcome(lineJobId(batch.id, line))
        : lineOutcome(batch, jobs, opened);
    const result = toBatchResult(batch.id, line, opened.customId, reply);
    // Not only after all lines: together their results may be longer than Redis can store.
    await resultFiles.uploadFullParts(batch);
    await batches.closeLine(batch, line, state, result, usage).catch((error: unknown) => {
      if (!isFull || !(error instanceof ResultFileFull)) throw error;
      return batches.discardLine(batch.id, line);
    });
    open.delete(line);
  }
  await resultFiles.uploadFullParts(batch);
}

function deletedJobOutcome(jobId: string) {
  const error = new AppError("not_found", "The job was deleted before its result was written");
  return { state: "failed", reply: errorReply(error, jobId), usage: NEVER_RAN.usage } as const;
}

/** All jobs of a line; null while one of them has not ended, "deleted" if one was deleted. */
async function readEndedJobs(
  { store, readJob }: BatchStepDeps,
  jobId: string,
): Promise<readonly [EndedJob, ...EndedJob[]] | "deleted" | null> {
  const first = await store.record(jobId);
  if (first === null) return "deleted";
  const records = await Promise.all(choiceIds(first).map((id) => store.record(id)));
  if (records.some((record) => record === null)) return "deleted";
  const present = records.filter((record) => record !== null);
  if (present.some(({ state }) => !isTerminal(state))) return null;
  const jobs = await Promise.all(
    present.map(async (record) => ({ record, job: await readJob(record) })),
  );
  return jobs as [EndedJob, ...EndedJob[]];
}
