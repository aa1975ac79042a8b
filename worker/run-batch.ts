/**
 * One step of a batch: lines whose jobs ended get their results, and more lines become jobs, as many as may be open at
 * once. A step can be made twice, or by two workers: jobs have their ids from their lines, and every write says where it
 * found the batch. It knows the stores, not the queue that brings the batch back for its next step.
 */
import type { Admission } from "../shared/admission.ts";
import type { Announcer } from "../shared/announcer.ts";
import type { BatchEnd } from "../shared/batch-contract.ts";
import {
  isEnded,
  toBatch,
  type BatchRecord,
  type BatchStore,
  type OpenLine,
} from "../shared/batch-store.ts";
import { isTerminal } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { FileRecord, FileStore } from "../shared/file-store.ts";
import { enqueue, type GenerationQueue } from "../shared/generation-queue.ts";
import { choiceIds } from "../shared/job-names.ts";
import { NEVER_RAN, type JobStore } from "../shared/job-store.ts";
import type { KeyRegistry } from "../shared/key-registry.ts";
import { LIMITS } from "../shared/limits.ts";
import { PROTOCOLS, type EndedJob } from "../shared/protocols.ts";
import { batchPoolId } from "../shared/redis-keys.ts";
import { submissionOf, type Asker, type Submission } from "../shared/submission.ts";
import type { BatchFiles } from "./batch-files.ts";
import {
  cutOff,
  lineJobId,
  nameOf,
  outcomeOf,
  refusal,
  requestOf,
  resultOf,
} from "./batch-line.ts";
import { isBlank, linesOf, type Line } from "./input-lines.ts";

/** Lines that one step reads at most, so that none takes long. */
const STEP_LINES_MAX = 500;

export interface RunBatchDeps {
  readonly store: JobStore;
  readonly batches: BatchStore;
  readonly files: FileStore;
  readonly batchFiles: BatchFiles;
  readonly keys: KeyRegistry;
  readonly generations: GenerationQueue;
  readonly announcer: Pick<Announcer, "ended" | "batchEnded">;
  /** What an asker needs beside a key. */
  readonly lookup: Omit<Asker, "principal">;
  /** Lines of a batch whose jobs have not ended, at most. */
  readonly openLinesMax: number;
}

/** @returns whether there is more to do */
export async function stepBatch(deps: RunBatchDeps, id: string): Promise<boolean> {
  const batch = await deps.batches.one(id);
  if (batch === null) return false;
  if (isEnded(batch)) {
    await deps.announcer.batchEnded(batch.tenant, toBatch(batch));
    return false;
  }
  const input = await deps.files.one(batch.tenant, batch.inputFileId);
  if (batch.ending !== "") await endLines(deps, batch, input);
  else if (Date.now() >= batch.deadlineMs) await deps.batches.finalize(id, "expired");
  else if (input === null) await deps.batches.finalize(id, "failed", INPUT_GONE);
  else if (batch.status === "validating") await validate(deps, batch, input);
  else await goOn(deps, batch, input);
  return true;
}

const INPUT_GONE = { code: "input_file_not_found", message: "The input file was deleted" };

/** The file as a whole; what is wrong with a line is the line's own failure. */
async function validate({ batches, files }: RunBatchDeps, { id }: BatchRecord, input: FileRecord) {
  let total = 0;
  for await (const line of linesOf(files.read(input), 0)) if (!isBlank(line)) total++;
  if (total > 0 && total <= LIMITS.batchLinesMax) return batches.begin(id, total);
  const message = `The input file must have 1 to ${LIMITS.batchLinesMax} lines, and has ${total}`;
  await batches.finalize(id, "failed", { code: "invalid_line_count", message });
}

async function goOn(deps: RunBatchDeps, batch: BatchRecord, input: FileRecord): Promise<void> {
  const { batches, keys, openLinesMax } = deps;
  const principal = await keys.read(batch.keyId);
  // Whoever may ask no more may not go on asking by a file.
  if (principal === null) return batches.cancel(batch.id);
  const open = await batches.openLines(batch.id);
  await closeEnded(deps, batch, open);
  let room = openLinesMax - open.size;
  const asker = { ...deps.lookup, principal };
  const isRead = await readOn(deps, batch, input, async (line, at) => {
    if (room <= 0) return false;
    const became = await openLine(deps, asker, at, line);
    if (became === "open") room--;
    return became !== "waits";
  });
  if (isRead && open.size === 0 && room === openLinesMax)
    await batches.finalize(batch.id, "completed");
}

/** No more jobs: what runs is cancelled, and what did not run is told so. */
async function endLines(deps: RunBatchDeps, batch: BatchRecord, input: FileRecord | null) {
  const { batches } = deps;
  const open = await batches.openLines(batch.id);
  for (const line of open.keys()) await cancelLine(deps, batch, line);
  await closeEnded(deps, batch, open);
  // Of a batch that was cancelled before its lines were counted, none is told of.
  const isRead =
    input === null ||
    batch.inProgressAtMs === null ||
    cutOff(batch) === null ||
    (await readOn(deps, batch, input, async (line, at) => {
      const said = cutOff(at)!;
      const result = resultOf(batch.id, at.line + 1, nameOf(line), said);
      await batches.advance(at, { offset: line.end, line: at.line + 1 }, { failed: result });
      return true;
    }));
  if (!isRead || open.size > 0) return;
  const all = await batches.one(batch.id);
  if (all === null) return;
  await deps.batchFiles.finish(all);
  await batches.end(all, all.ending as BatchEnd);
}

/**
 * Reads lines from where the batch is.
 * @param each deals with a line that is not blank; false if the batch must stay before it
 * @returns whether all has been read
 */
async function readOn(
  { batches, files, batchFiles }: RunBatchDeps,
  batch: BatchRecord,
  input: FileRecord,
  each: (line: Line, at: BatchRecord) => Promise<boolean>,
): Promise<boolean> {
  let at = batch;
  let left = STEP_LINES_MAX;
  for await (const line of linesOf(files.read(input, batch.offset), batch.offset)) {
    if (left-- === 0) return false;
    const next = { offset: line.end, line: at.line + 1 };
    if (isBlank(line)) await batches.advance(at, next, null);
    else if (!(await each(line, at))) return false;
    at = { ...at, ...next };
  }
  await batchFiles.spill(batch);
  return true;
}

/** A line that becomes jobs, is refused, or must wait for what its key's limits allow. */
async function openLine(
  deps: RunBatchDeps,
  asker: Asker,
  batch: BatchRecord,
  line: Line,
): Promise<"open" | "failed" | "waits"> {
  const { batches, store, generations } = deps;
  const number = batch.line + 1;
  const next = { offset: line.end, line: number };
  const jobId = lineJobId(batch.id, number);
  try {
    const { custom_id: customId, body } = requestOf(line, batch.endpoint);
    if (!(await batches.claimName(batch.id, customId, number))) {
      const message = "custom_id is that of an earlier line";
      throw new AppError("invalid_request", message, { param: "custom_id" });
    }
    const asking = await PROTOCOLS[batch.endpoint].ask(asker, body);
    const job = { id: jobId, createdAtMs: Date.now(), deadlineMs: batch.deadlineMs };
    const asked = { ...asking.asked, batch: batch.id };
    const submission = await submissionOf(asker, { ...asking, asked }, job);
    const jobs = submission.jobs.map((job) => ({
      ...job,
      deadlineMs: Math.min(job.deadlineMs, batch.deadlineMs),
    }));
    const { status } = await store.submitAll(jobs, ofBatches(submission));
    if (status === "limited") return "waits";
    await enqueue(
      generations,
      jobs.map(({ id }) => id),
    );
    await batches.advance(batch, next, { open: { customId, n: asking.n } });
    return "open";
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const failed = resultOf(batch.id, number, nameOf(line), refusal(error, jobId));
    await batches.advance(batch, next, { failed });
    return "failed";
  }
}

/**
 * Batches take from a pool of their own, as large as the key's, so that nothing is taken from requests that somebody waits
 * for. A batch was one request, however many lines it has.
 */
function ofBatches({ admission: { keyId, limits, tokens } }: Submission): Admission {
  return {
    keyId: keyId && batchPoolId(keyId),
    limits: { ...limits, requests_per_minute: null },
    tokens,
    repetition: null,
  };
}

async function cancelLine({ store, announcer }: RunBatchDeps, batch: BatchRecord, line: number) {
  const first = await store.record(lineJobId(batch.id, line));
  for (const id of first === null ? [] : choiceIds(first)) {
    if ((await store.cancel(id)) !== "cancelled") continue;
    const record = await store.record(id);
    if (record) await announcer.ended(record, await store.view(record));
  }
}

/** Closes the lines whose jobs have all ended, and takes them off the map. */
async function closeEnded(deps: RunBatchDeps, batch: BatchRecord, open: Map<number, OpenLine>) {
  const { batches, batchFiles } = deps;
  for (const [line, opened] of open) {
    const jobs = await endedJobs(deps, lineJobId(batch.id, line));
    if (jobs === null) continue;
    const { state, said, usage } =
      jobs === "deleted" ? deleted(lineJobId(batch.id, line)) : outcomeOf(batch, jobs, opened);
    const result = resultOf(batch.id, line, opened.customId, said);
    await batches.close(batch.id, line, state, result, usage);
    open.delete(line);
  }
  await batchFiles.spill(batch);
}

function deleted(jobId: string) {
  const error = new AppError("not_found", "The job was deleted before its answer was kept");
  return { state: "failed", said: refusal(error, jobId), usage: NEVER_RAN.usage } as const;
}

/** All jobs of a line; null while one of them has not ended. */
async function endedJobs(
  { store }: RunBatchDeps,
  jobId: string,
): Promise<readonly [EndedJob, ...EndedJob[]] | "deleted" | null> {
  const first = await store.record(jobId);
  if (first === null) return "deleted";
  const records = await Promise.all(choiceIds(first).map((id) => store.record(id)));
  if (records.some((record) => record === null)) return "deleted";
  const all = records.filter((record) => record !== null);
  if (all.some(({ state }) => !isTerminal(state))) return null;
  const jobs = await Promise.all(
    all.map(async (record) => ({ record, job: await store.view(record) })),
  );
  return jobs as [EndedJob, ...EndedJob[]];
}
