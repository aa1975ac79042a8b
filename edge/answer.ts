/**
 * Answering a request of the OpenAI protocols from its jobs' events: at once when they ended, or chunk by chunk.
 * The client's going ends the answer, never the jobs, which can still be read: the first one's id is in `x-trimtab-job-id`.
 */
import { isEnd, type EndEvent } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import { joinReports, type TokenReports } from "../shared/reports.ts";
import type { AppContext } from "./context.ts";
import { choiceIds } from "../shared/job-names.ts";
import type { Log } from "./log.ts";
import { merge } from "./merge.ts";
import { streamErrorBody } from "./middleware/errors.ts";
import type { AnsweredJob, Shapes } from "../shared/openai-shapes.ts";
import { requireSuccess, usageOf, wholeAnswer, type EndedChoice } from "../shared/whole-answer.ts";
import { streamFrames, type Frame, type StreamControl } from "./sse.ts";

export interface AnswerOptions {
  readonly stream: boolean;
  /** Whether the stream ends with the tokens that were used. */
  readonly includeUsage: boolean;
  /** Choices for each prompt. */
  readonly n: number;
  /** Number of the last event that the reader has, of a request's only job. */
  readonly after?: number;
  readonly log: Log;
}

/** The fields of a request that say how its answer is sent. */
interface StreamRequest {
  readonly n?: number | null | undefined;
  readonly stream?: boolean | null | undefined;
  readonly stream_options?:
    | { readonly include_usage?: boolean | null | undefined }
    | null
    | undefined;
}

export function answerOptions(request: StreamRequest, log: Log): AnswerOptions {
  return {
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    n: request.n ?? 1,
    log,
  };
}

/** @throws AppError what a job ended with, unless it succeeded or the answer is a stream */
export async function answer(
  c: AppContext,
  job: AnsweredJob,
  shapes: Shapes,
  options: AnswerOptions,
): Promise<Response> {
  const ids = choiceIds(job);
  if (!options.stream) return c.json(await awaitAnswer(c, ids, shapes, options));
  return streamFrames(
    c,
    (control) => chunkFrames(c, ids, shapes, { ...options, ...control }),
    (error) => ({ data: JSON.stringify(streamErrorBody(c, options.log, job.id, error)) }),
  );
}

async function awaitAnswer(
  c: AppContext,
  ids: readonly string[],
  shapes: Shapes,
  { n }: AnswerOptions,
): Promise<object> {
  // One that fails ends the waiting for the others.
  const failed = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, failed.signal]);
  try {
    const ends = await Promise.all(ids.map((id) => endOf(c, id, signal)));
    return wholeAnswer(shapes, ends, n);
  } finally {
    failed.abort();
  }
}

/** All that a job said. @throws AppError what it ended with, unless it succeeded */
export async function endOf(
  c: AppContext,
  jobId: string,
  signal: AbortSignal,
): Promise<EndedChoice> {
  let text = "";
  const reports: TokenReports[] = [];
  for await (const event of c.var.backend.follow(jobId, { after: 0, signal })) {
    if (event.type === "tokens") {
      text += event.text;
      reports.push(event);
    }
    if (!isEnd(event)) continue;
    requireSuccess(event);
    return { piece: { text, ...joinReports(reports) }, end: event };
  }
  // Nobody reads this, and without a cause it is not logged as a fault either.
  if (signal.aborted) throw new AppError("internal", "The client has gone");
  throw withoutEnd();
}

/** The protocol's frames; with one job the ids are those of its events, from which a broken stream can be read on. */
async function* chunkFrames(
  c: AppContext,
  ids: readonly string[],
  shapes: Shapes,
  { includeUsage, n, after = 0, heartbeat, ...options }: AnswerOptions & StreamControl,
): AsyncGenerator<Frame> {
  const frame = (chunk: object, id?: number): Frame => ({
    ...(id !== undefined && ids.length === 1 && { id }),
    data: JSON.stringify(includeUsage ? { ...chunk, usage: null } : chunk),
  });
  const left = new AbortController();
  const signal = AbortSignal.any([options.signal, left.signal]);
  const follow = async function* (index: number) {
    const request = { after, signal, ...(index === 0 && { onIdle: heartbeat }) };
    for await (const event of c.var.backend.follow(ids[index]!, request)) yield { index, event };
  };
  const ends: EndEvent[] = [];
  try {
    for (const index of after === 0 ? ids.keys() : []) {
      const opening = shapes.opening(index);
      if (opening !== null) yield frame(opening);
    }
    for await (const { index, event } of merge(Array.from(ids.keys(), follow))) {
      if (event.type === "tokens" && (event.text !== "" || event.logprobs || event.trace)) {
        yield frame(shapes.delta(index, event), event.seq);
      }
      if (!isEnd(event)) continue;
      requireSuccess(event);
      ends[index] = event;
      yield frame(shapes.closing(index, event.finish_reason), event.seq);
    }
  } finally {
    left.abort();
  }
  if (Object.keys(ends).length < ids.length) throw withoutEnd();
  if (includeUsage) yield { data: JSON.stringify({ ...shapes.bare(), usage: usageOf(ends, n) }) };
  yield { data: "[DONE]" };
}

function withoutEnd(): Error {
  return new Error("The job's events ended before the job did");
}
