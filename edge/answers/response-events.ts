/**
 * Turns a job's log into the event stream of the Responses API. The events depend only on the log and the request, so that
 * every reader sees the same events with the same numbers at any time, also for jobs that were submitted in another protocol.
 */
import { isEnd } from "../../shared/api/job-events.ts";
import type { EndEvent, JobEvent } from "../../shared/api/job-events.ts";
import type {
  OutputItem,
  OutputMessage,
  ResponseItemStatus,
} from "../../shared/api/response-items.ts";
import type { ResponseStatus, ResponseStreamEvent } from "../../shared/api/responses.ts";
import { joinTokenDetails, type TokenDetails } from "../../shared/api/token-details.ts";
import { messageId } from "../../shared/jobs/ids.ts";
import type { AnsweredJob } from "../../shared/protocols/chat-replies.ts";
import {
  itemEndStatus,
  messageItem,
  NOT_STARTED,
  outputTextDetails,
  responseStatus,
  toOutputText,
  toResponse,
  type JobSnapshot,
} from "../../shared/protocols/response-object.ts";
import { beforeCalls, MessageTokens } from "../../shared/protocols/message-tokens.ts";
import { callItem, callItemId } from "../../shared/protocols/response-tools.ts";
import { OutputParser, type OutputPart } from "../../shared/tools/parser.ts";

/** The item that is being generated. */
type OpenItem =
  | { readonly kind: "message"; text: string }
  | { readonly kind: "call"; readonly index: number; readonly name: string; arguments: string };

type TokensEvent = Extract<JobEvent, { type: "tokens" }>;

/** Builds the events of one response. `next` must be called with every event of the log in order, from the first. */
export class ResponseEvents {
  readonly #job: AnsweredJob;
  #snapshot: JobSnapshot = NOT_STARTED;
  readonly #tokenDetails: TokenDetails[] = [];
  /** The details of tokens that no delta has had. */
  readonly #messageTokens = new MessageTokens();
  readonly #parser: OutputParser;
  #item: OpenItem | null = null;
  /** Items that were opened so far. */
  #items = 0;
  /** The message, once it is closed. */
  #message: OutputMessage | undefined;
  #nextNumber = 0;

  constructor(job: AnsweredJob) {
    this.#job = job;
    this.#parser = new OutputParser(job.generation.tools);
  }

  /** Sequence number of the last event so far; -1 for none. */
  get last(): number {
    return this.#nextNumber - 1;
  }

  /**
   * The events that follow from one event of the log.
   * @param endedAtMs when the job ended; needed with its last event
   */
  next(event: JobEvent, endedAtMs: number | null = null): ResponseStreamEvent[] {
    if (event.type === "queued") {
      return [this.#state("response.created"), this.#state("response.queued")];
    }
    if (event.type === "started") return this.#snapshot.state === "queued" ? this.#start() : [];
    if (event.type === "tokens") return this.#append(event);
    return isEnd(event) ? this.#end(event, endedAtMs) : [];
  }

  #start(): ResponseStreamEvent[] {
    this.#snapshot = { ...this.#snapshot, state: "running" };
    const started = this.#state("response.in_progress");
    // With tools, the first item may be a call.
    return this.#job.generation.tools ? [started] : [started, ...this.#openMessage()];
  }

  #append(tokens: TokensEvent): ResponseStreamEvent[] {
    const { output } = this.#snapshot;
    this.#tokenDetails.push(tokens);
    this.#messageTokens.push(tokens);
    this.#snapshot = { ...this.#snapshot, output: { ...output, text: output.text + tokens.text } };
    const parts = this.#add(this.#parser.push(tokens.text));
    // With tools, a token without text may belong to a call.
    return this.#job.generation.tools ? parts : [...parts, ...this.#addDetails()];
  }

  #add(parts: readonly OutputPart[]): ResponseStreamEvent[] {
    return parts.flatMap((part) => {
      if (part.type === "text") return this.#addText(part.text);
      if (part.type === "call") return this.#openCall(part);
      return this.#addArguments(part.text);
    });
  }

  #addText(text: string): ResponseStreamEvent[] {
    const opening = this.#item === null ? this.#openMessage() : [];
    if (this.#item?.kind !== "message") return [];
    this.#item.text += text;
    return [...opening, this.#textDelta(text, this.#messageTokens.take(text))];
  }

  /** The details of tokens that have completed no text. */
  #addDetails(): ResponseStreamEvent[] {
    const rest = this.#item?.kind === "message" ? this.#messageTokens.rest() : null;
    return rest === null ? [] : [this.#textDelta("", rest)];
  }

  #textDelta(text: string, details: TokenDetails): ResponseStreamEvent {
    const delta = { ...this.#place(), delta: text, ...outputTextDetails(details) };
    return this.#event("response.output_text.delta", delta);
  }

  #addArguments(text: string): ResponseStreamEvent[] {
    if (this.#item?.kind !== "call") return [];
    this.#item.arguments += text;
    const { item_id, output_index } = this.#place();
    const delta = { item_id, output_index, delta: text };
    return [this.#event("response.function_call_arguments.delta", delta)];
  }

  #openMessage(): ResponseStreamEvent[] {
    this.#item = { kind: "message", text: "" };
    this.#items++;
    return [
      this.#itemEvent("response.output_item.added", {
        ...messageItem(this.#job.id, "in_progress", toOutputText({ text: "" })),
        content: [],
      }),
      this.#event("response.content_part.added", {
        ...this.#place(),
        part: toOutputText({ text: "" }),
      }),
    ];
  }

  #openCall({ index, name }: Extract<OutputPart, { type: "call" }>): ResponseStreamEvent[] {
    const closing = this.#closeItem("completed", true);
    this.#item = { kind: "call", index, name, arguments: "" };
    this.#items++;
    const item = callItem(this.#job.id, index, this.#item, "in_progress");
    return [...closing, this.#itemEvent("response.output_item.added", item)];
  }

  /** @param callFollows whether the item after it is a call */
  #closeItem(status: ResponseItemStatus, callFollows = false): ResponseStreamEvent[] {
    const item = this.#item;
    if (item === null) return [];
    const all = joinTokenDetails(this.#tokenDetails);
    const events =
      item.kind === "message"
        ? this.#closeMessage(item.text, status, callFollows ? beforeCalls(all, item.text) : all)
        : [];
    if (item.kind === "call") {
      const { index, name, arguments: args } = item;
      const { item_id, output_index } = this.#place();
      const done = { item_id, output_index, name, arguments: args };
      events.push(
        this.#event("response.function_call_arguments.done", done),
        this.#itemEvent("response.output_item.done", callItem(this.#job.id, index, item, status)),
      );
    }
    this.#item = null;
    return events;
  }

  #closeMessage(
    text: string,
    status: ResponseItemStatus,
    details: TokenDetails,
  ): ResponseStreamEvent[] {
    const part = toOutputText({ text, ...details });
    this.#message = messageItem(this.#job.id, status, part);
    const { logprobs, trace } = part;
    const done = { ...this.#place(), text, logprobs, ...(trace && { trace }) };
    return [
      this.#event("response.output_text.done", done),
      this.#event("response.content_part.done", { ...this.#place(), part }),
      this.#itemEvent("response.output_item.done", this.#message),
    ];
  }

  /** The last events: the end of the last item, if one was opened, and the end of the response. */
  #end(
    { type, finish_reason, usage, error }: EndEvent,
    endedAtMs: number | null,
  ): ResponseStreamEvent[] {
    const wasRunning = this.#snapshot.state === "running";
    const last = wasRunning ? this.#add(this.#parser.end()) : [];
    last.push(...this.#addDetails());
    if (wasRunning && this.#items === 0) last.push(...this.#openMessage());
    const { text } = this.#snapshot.output;
    const output = { text, finish_reason, ...joinTokenDetails(this.#tokenDetails) };
    const ended_at = endedAtMs === null ? null : endedAtMs / 1000;
    this.#snapshot = { state: type, ended_at, output, usage, error };
    const status = responseStatus(this.#snapshot);
    const closing = this.#closeItem(itemEndStatus(status));
    return [...last, ...closing, this.#state(ENDS[status])];
  }

  #state(type: string): ResponseStreamEvent {
    const response = toResponse(this.#job, this.#snapshot, this.#message);
    return this.#event(type, { response });
  }

  /** The place of the open item. */
  #place() {
    const { id } = this.#job;
    const item_id = this.#item?.kind === "call" ? callItemId(id, this.#item.index) : messageId(id);
    return { item_id, output_index: this.#items - 1, content_index: 0 };
  }

  #itemEvent(type: string, item: OutputItem): ResponseStreamEvent {
    return this.#event(type, { output_index: this.#items - 1, item });
  }

  #event(type: string, data: object): ResponseStreamEvent {
    return { type, sequence_number: this.#nextNumber++, ...data };
  }
}

/** Event types by how a job ended. The official clients fail on `response.cancelled`, so a cancelled
 * response has another type, and its `status` says that it was cancelled. */
const ENDS: Readonly<Record<ResponseStatus, string>> = {
  queued: "response.queued",
  in_progress: "response.in_progress",
  completed: "response.completed",
  incomplete: "response.incomplete",
  cancelled: "response.incomplete",
  failed: "response.failed",
};
