/**
 * Answers a request of the OpenAI protocols from its jobs: in one piece when they have ended, or as a stream of chunks.
 * If the client disconnects, the answer ends but the jobs continue. They can still be read: the header `x-trimtab-job-id` has
 * the id of the first.
 */
import { isEnd } from "../../shared/api/job-events.ts";
import type { EndEvent } from "../../shared/api/job-events.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import { toEvent } from "../../shared/jobs/log-entry.ts";
import { jobNotFound } from "../../shared/submission/submission.ts";
import { endedChoice } from "../../shared/protocols/index.ts";
import { startChecked } from "../requests/prompt-check.ts";
import type { Log } from "../runtime/log.ts";
import { merge } from "./merge.ts";
import { obfuscated } from "./obfuscation.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import type { AnsweredJob, ReplyBuilder } from "../../shared/protocols/chat-replies.ts";
import {
  requireSuccess,
  totalUsage,
  wholeReply,
  type EndedChoice,
  type JobFields,
} from "../../shared/protocols/whole-reply.ts";
import { streamFrames, streamOnceStarted, type SseFrame, type StreamControl } from "../http/sse.ts";

export interface AnswerOptions {
  readonly stream: boolean;
  /** Whether the stream's last chunk has the token usage. */
  readonly includeUsage: boolean;
  /** Whether chunks with text are padded. */
  readonly includeObfuscation?: boolean;
  /** Number of choices for each prompt. */
  readonly n: number;
  /** Whether the other jobs of the request are cancelled when one fails: its answer is the error then. */
  readonly cancelsRest?: boolean;
  /** Sequence number of the last event that the reader has. Only for requests with one job. */
  readonly after?: number;
  readonly log: Log;
}

/** The fields of a request that decide how its answer is sent. */
interface StreamRequest {
  readonly n?: number | null | undefined;
  readonly stream?: boolean | null | undefined;
  readonly stream_options?:
    | {
        readonly include_usage?: boolean | null | undefined;
        readonly include_obfuscation?: boolean | null | undefined;
      }
    | null
    | undefined;
}

/** How a request asks for its answer, with the defaults. */
export function answerOptions(request: StreamRequest, log: Log): AnswerOptions {
  return {
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    includeObfuscation: request.stream_options?.include_obfuscation ?? false,
    n: request.n ?? 1,
    cancelsRest: true,
    log,
  };
}

/** The contract part of routes that reply with the outcome of jobs: those that call `wholeAnswer` or `awaitChoice`. */
export const ANSWER: ContractPart = {
  errors: [
    "context_length_exceeded",
    "model_not_found",
    "job_cancelled",
    "deadline_exceeded",
    "base_unavailable",
    "base_failed",
    "worker_lost",
  ],
};

/**
 * The answer as a stream of chunks.
 * @throws AppError the error of a job that fails before the first token and soon, with its field; the others are cancelled
 */
export async function streamAnswer(
  c: AppContext,
  job: AnsweredJob,
  replies: ReplyBuilder,
  options: AnswerOptions,
): Promise<Response> {
  const ids = choiceIds(job);
  const source = (control: StreamControl) =>
    chunkFrames(c, ids, replies, { ...options, ...control });
  const toFrame = (error: unknown) => ({
    data: JSON.stringify(streamErrorBody(c, options.log, job.id, error)),
  });
  // A reader that continues a stream has had its first token.
  if ((options.after ?? 0) > 0) return streamFrames(c, source, toFrame);
  const start = () => streamOnceStarted(c, source, toFrame);
  try {
    const firstOfPrompts = ids.filter((_, i) => i % options.n === 0);
    return await startChecked(c, job, firstOfPrompts, start);
  } catch (error) {
    if (options.cancelsRest) await cancelAll(c, ids);
    throw error;
  }
}

/** Jobs of a request that are awaited at once: each needs a subscription, and on Cloudflare a request to the hub. */
const AWAITED_MAX = 16;

/** Waits until all jobs of the request have ended. @throws AppError the error of the first job that does not succeed */
export async function wholeAnswer<Whole>(
  c: AppContext,
  job: AnsweredJob,
  replies: ReplyBuilder<Whole>,
  { n, cancelsRest = false }: Pick<AnswerOptions, "n" | "cancelsRest">,
): Promise<Whole> {
  const ids = choiceIds(job);
  const fieldsOf = promptFields(ids, n, replies);
  return wholeReply(replies, await awaitChoices(c, ids, { fieldsOf, cancelsRest }), n);
}

/** The fields that the error of the i-th job can be about. */
const promptFields =
  (ids: readonly string[], n: number, { promptField }: Pick<ReplyBuilder, "promptField">) =>
  (i: number): JobFields => ({
    own: ids.length > n ? `${promptField}.${Math.floor(i / n)}` : undefined,
    prompt: promptField,
  });

interface AwaitOptions extends Pick<AnswerOptions, "cancelsRest"> {
  /** The fields that the error of the i-th job can be about. */
  readonly fieldsOf: (i: number) => JobFields;
}

/** Waits until these jobs have ended. @throws AppError the error of the first one that does not succeed, with its field */
export async function awaitChoices(
  c: AppContext,
  ids: readonly string[],
  { fieldsOf, cancelsRest }: AwaitOptions,
): Promise<EndedChoice[]> {
  // A job that fails ends the wait for the others.
  const failed = new AbortController();
  const client = c.req.raw.signal;
  const signal = AbortSignal.any([client, failed.signal]);
  try {
    return await mapAtMost(AWAITED_MAX, ids, (id, i) => awaitChoice(c, id, signal, fieldsOf(i)));
  } catch (error) {
    // The reply has nothing of the others, and the client will send all of them again.
    if (cancelsRest && !client.aborted) await cancelAll(c, ids);
    throw error;
  } finally {
    failed.abort();
  }
}

/** Cancels those of the jobs that have not ended. */
async function cancelAll(c: AppContext, ids: readonly string[]): Promise<void> {
  await mapAtMost(AWAITED_MAX, ids, (id) => c.var.stores.cancelJob(id).catch(() => {}));
}

/**
 * Waits until a job has ended, and reads its output from the record.
 * @throws AppError the job's error unless it succeeded; not_found if it was deleted
 */
export async function awaitChoice(
  c: AppContext,
  jobId: string,
  signal: AbortSignal,
  fields: JobFields,
): Promise<EndedChoice> {
  const record = await c.var.stores.waitForEnd(jobId, { signal });
  // The client cannot receive this error. It has no cause, so that it is not logged.
  if (signal.aborted) throw new AppError("internal", "The client has disconnected");
  if (record === null) throw jobNotFound();
  const choice = endedChoice({ record, job: await c.var.stores.readJob(record) });
  requireSuccess(choice.end, fields);
  return choice;
}

/** The results in the order of the items. @throws the first error */
async function mapAtMost<T, R>(
  atOnce: number,
  items: readonly T[],
  run: (item: T, i: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const waiting = items.entries();
  const runNext = async () => {
    for (const [i, item] of waiting) results[i] = await run(item, i);
  };
  await Promise.all(Array.from({ length: atOnce }, runNext));
  return results;
}

/** The frames of a streamed answer. If it has one job, a frame's id is that of its event, so that a client can resume. */
async function* chunkFrames(
  c: AppContext,
  ids: readonly string[],
  replies: ReplyBuilder,
  { n, after = 0, heartbeat, ...options }: AnswerOptions & StreamControl,
): AsyncGenerator<SseFrame> {
  const { includeUsage, includeObfuscation = false } = options;
  const frame = (chunk: object, id?: number): SseFrame => {
    const whole = includeUsage ? { ...chunk, usage: null } : chunk;
    return {
      ...(id !== undefined && ids.length === 1 && { id }),
      data: JSON.stringify(includeObfuscation ? obfuscated(whole) : whole),
    };
  };
  const stopped = new AbortController();
  const signal = AbortSignal.any([options.signal, stopped.signal]);
  const follow = async function* (index: number) {
    const from = replies.needsAllPieces ? 0 : after;
    const request = { after: from, signal, ...(index === 0 && { onIdle: heartbeat }) };
    for await (const entry of c.var.stores.followJob(ids[index]!, request)) {
      yield { index, event: toEvent(entry) };
    }
  };
  const ends: EndEvent[] = [];
  const fieldsOf = promptFields(ids, n, replies);
  // A prompt that is refused gives the reply its status, whichever prompt's token comes first.
  const unstarted = new Set(ids.map((_, i) => Math.floor(i / n)));
  const isOpening = (index: number) => {
    unstarted.delete(Math.floor(index / n));
    return unstarted.size > 0;
  };
  try {
    for (const index of after === 0 ? ids.keys() : []) {
      const firstChunk = replies.firstChunk(index);
      if (firstChunk !== null) yield { ...frame(firstChunk), isOpening: true };
    }
    for await (const { index, event } of merge(Array.from(ids.keys(), follow))) {
      if (event.type === "tokens") {
        const chunk = replies.textChunk(index, event);
        const opens = isOpening(index);
        if (chunk !== null && event.seq > after) {
          yield { ...frame(chunk, event.seq), isOpening: opens };
        }
      }
      if (!isEnd(event)) continue;
      requireSuccess(event, fieldsOf(index));
      ends[index] = event;
      const lastChunk = replies.lastChunk(index, event.finish_reason);
      yield { ...frame(lastChunk, event.seq), isOpening: isOpening(index) };
    }
  } finally {
    stopped.abort();
  }
  if (Object.keys(ends).length < ids.length) throw jobNotFound();
  if (includeUsage) yield { data: JSON.stringify(replies.usageChunk(totalUsage(ends, n))) };
  yield { data: "[DONE]" };
}
