/**
 * Answering a request of the OpenAI protocols from a job's events: at once when it ended, or chunk by chunk.
 * The client's going ends the answer, never the job, which can still be read under the id in `x-trimtab-job-id`.
 */
import { isTerminal, type JobEvent, type Outcome, type TerminalState } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { NewJob } from "../shared/job.ts";
import { joinReports, type TokenReports } from "../shared/reports.ts";
import type { AppContext } from "./context.ts";
import type { Log } from "./log.ts";
import { streamErrorBody } from "./middleware/errors.ts";
import type { Shapes } from "./openai-shapes.ts";
import { streamFrames, type Frame, type StreamControl } from "./sse.ts";

export interface AnswerOptions {
  readonly stream: boolean;
  /** Whether the stream ends with the tokens that were used. */
  readonly includeUsage: boolean;
  readonly log: Log;
}

/** The fields of a request that say how its answer is sent. */
interface StreamRequest {
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
    log,
  };
}

/** @throws AppError what the job ended with, unless it succeeded or the answer is a stream */
export async function answer(
  c: AppContext,
  job: NewJob,
  shapes: Shapes,
  options: AnswerOptions,
): Promise<Response> {
  if (!options.stream) return c.json(await wholeAnswer(c, job, shapes));
  return streamFrames(
    c,
    (control) => chunkFrames(c, job, shapes, { ...options, ...control }),
    (error) => ({ data: streamErrorBody(c, options.log, job.id, error) }),
  );
}

async function wholeAnswer(c: AppContext, job: NewJob, shapes: Shapes): Promise<object> {
  const { signal } = c.req.raw;
  let text = "";
  const reports: TokenReports[] = [];
  for await (const event of c.var.backend.follow(job.id, { after: 0, signal })) {
    if (event.type === "tokens") {
      text += event.text;
      reports.push(event);
    }
    if (!isEnd(event)) continue;
    requireSuccess(event);
    return shapes.whole({ text, ...joinReports(reports) }, event.finish_reason, event.usage);
  }
  // Nobody reads this, and without a cause it is not logged as a fault either.
  if (signal.aborted) throw new AppError("internal", "The client has gone");
  throw withoutEnd();
}

/** The protocol's frames; the ids are those of the job's events, from which a broken stream can be read on. */
async function* chunkFrames(
  c: AppContext,
  job: NewJob,
  shapes: Shapes,
  { includeUsage, signal, heartbeat }: AnswerOptions & StreamControl,
): AsyncGenerator<Frame> {
  const frame = (chunk: object, id?: number): Frame => ({
    ...(id !== undefined && { id }),
    data: JSON.stringify(includeUsage ? { ...chunk, usage: null } : chunk),
  });
  const opening = shapes.opening();
  if (opening !== null) yield frame(opening);
  const events = c.var.backend.follow(job.id, { after: 0, signal, onIdle: heartbeat });
  for await (const event of events) {
    if (event.type === "tokens" && (event.text !== "" || event.logprobs || event.trace)) {
      yield frame(shapes.delta(event), event.seq);
    }
    if (!isEnd(event)) continue;
    requireSuccess(event);
    yield frame(shapes.closing(event.finish_reason), event.seq);
    if (includeUsage) yield { data: JSON.stringify({ ...shapes.bare(), usage: event.usage }) };
    yield { data: "[DONE]" };
    return;
  }
  throw withoutEnd();
}

type EndEvent = { readonly seq: number; readonly type: TerminalState } & Outcome;

function isEnd(event: JobEvent): event is EndEvent {
  return event.type !== "tokens" && event.type !== "started" && isTerminal(event.type);
}

function requireSuccess({ type, error }: EndEvent): void {
  if (type === "succeeded") return;
  if (error !== null) throw new AppError(error.code, error.message);
  if (type === "cancelled") throw new AppError("job_cancelled", "The job was cancelled");
  if (type === "expired") throw new AppError("deadline_exceeded", "The job's deadline passed");
  throw new AppError("internal", "The job failed");
}

function withoutEnd(): Error {
  return new Error("The job's events ended before the job did");
}
