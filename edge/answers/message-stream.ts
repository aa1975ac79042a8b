/** A job's log as the event stream of Anthropic's Messages API. */
import { isEnd } from "../../shared/api/job-events.ts";
import type { AnsweredJob } from "../../shared/protocols/chat-replies.ts";
import { messageError } from "../../shared/protocols/message-errors.ts";
import {
  messageStart,
  messageStop,
  messageUsage,
  toolUse,
} from "../../shared/protocols/messages.ts";
import { requireSuccess } from "../../shared/protocols/whole-reply.ts";
import { jobNotFound } from "../../shared/submission/submission.ts";
import { OutputParser, type OutputPart } from "../../shared/tools/parser.ts";
import { toEvent } from "../../shared/jobs/log-entry.ts";
import type { AppContext } from "../http/context.ts";
import { streamOnceStarted, type SseFrame, type StreamControl } from "../http/sse.ts";
import { streamError } from "../middleware/errors.ts";
import { startChecked } from "../requests/prompt-check.ts";
import type { Log } from "../runtime/log.ts";

export function streamMessage(c: AppContext, job: AnsweredJob, log: Log): Promise<Response> {
  const frames = (control: StreamControl) => messageFrames(c, job, control);
  const toFrame = (thrown: unknown) => {
    const error = streamError(c, log, job.id, thrown);
    return { event: "error", data: JSON.stringify(messageError(error, c.var.requestId)) };
  };
  return startChecked(c, job, [job.id], () => streamOnceStarted(c, frames, toFrame));
}

/** @throws AppError the job's error, unless it succeeds */
async function* messageFrames(
  c: AppContext,
  job: AnsweredJob,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<SseFrame> {
  yield { ...frame("message_start", { message: messageStart(job) }), isOpening: true };
  yield { ...frame("ping", {}), isOpening: true };
  const blocks = new BlockFrames(job);
  const request = { after: 0, signal, onIdle: heartbeat };
  for await (const entry of c.var.stores.followJob(job.id, request)) {
    const event = toEvent(entry);
    if (event.type === "tokens") yield* blocks.push(event.text);
    if (!isEnd(event)) continue;
    requireSuccess(event, { prompt: "messages" });
    yield* blocks.end();
    const delta = messageStop(job, event);
    yield frame("message_delta", { delta, usage: messageUsage(event.usage) });
    yield frame("message_stop", {});
    return;
  }
  throw jobNotFound();
}

const EMPTY_TEXT = { type: "text", text: "", citations: null } as const;

/** The events of the content: a block for the text, and one for each call. */
class BlockFrames {
  readonly #jobId: string;
  readonly #parser: OutputParser;
  /** The kind of the open block; null if none is open. */
  #open: "text" | "call" | null = null;
  #index = -1;

  constructor({ id, generation }: AnsweredJob) {
    this.#jobId = id;
    this.#parser = new OutputParser(generation.tools);
  }

  /** The events that follow from more text of the output. */
  push(text: string): SseFrame[] {
    return this.#framesOf(this.#parser.push(text));
  }

  end(): SseFrame[] {
    return [...this.#framesOf(this.#parser.end()), ...this.#close()];
  }

  #framesOf(parts: readonly OutputPart[]): SseFrame[] {
    return parts.flatMap((part) => {
      if (part.type === "call") {
        return this.#start("call", toolUse(this.#jobId, part.index, part.name));
      }
      if (part.text === "") return [];
      if (part.type === "arguments") {
        return [this.#delta({ type: "input_json_delta", partial_json: part.text })];
      }
      const opening = this.#open === "text" ? [] : this.#start("text", EMPTY_TEXT);
      return [...opening, this.#delta({ type: "text_delta", text: part.text })];
    });
  }

  #start(kind: "text" | "call", content_block: object): SseFrame[] {
    const closing = this.#close();
    this.#open = kind;
    this.#index++;
    return [...closing, frame("content_block_start", { index: this.#index, content_block })];
  }

  #delta(delta: object): SseFrame {
    return frame("content_block_delta", { index: this.#index, delta });
  }

  #close(): SseFrame[] {
    if (this.#open === null) return [];
    this.#open = null;
    return [frame("content_block_stop", { index: this.#index })];
  }
}

function frame(type: string, data: object): SseFrame {
  return { event: type, data: JSON.stringify({ type, ...data }) };
}
