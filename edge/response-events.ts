/**
 * A job's log as the event stream of the Responses API. It is a function of the log and of what was asked, nothing else,
 * so the same numbers name the same events for every reader at any time, also of jobs that another protocol asked for.
 */
import { isEnd, type EndEvent, type JobEvent } from "../shared/contract.ts";
import { joinReports, type TokenReports } from "../shared/reports.ts";
import { messageId } from "../shared/job-names.ts";
import type { AnsweredJob } from "../shared/openai-shapes.ts";
import {
  statusOf,
  toItem,
  toldOf,
  toPart,
  toResponse,
  NOT_STARTED,
  type ResponseStatus,
  type Standing,
} from "../shared/response-object.ts";

export interface ResponseEvent {
  readonly type: string;
  /** Counts from 0 without gaps. */
  readonly sequence_number: number;
}

/** Fed with every event of the log from the first, in order. */
export class ResponseEvents {
  readonly #job: AnsweredJob;
  #standing: Standing = NOT_STARTED;
  readonly #reports: TokenReports[] = [];
  /** Number of the next event. */
  #number = 0;

  constructor(job: AnsweredJob) {
    this.#job = job;
  }

  /** Number of the last event so far; -1 for none. */
  get last(): number {
    return this.#number - 1;
  }

  /** @param endedAtMs when the job ended, told with its last event */
  next(event: JobEvent, endedAtMs: number | null = null): ResponseEvent[] {
    if (event.type === "queued") {
      return [this.#state("response.created"), this.#state("response.queued")];
    }
    if (event.type === "started") return this.#standing.state === "queued" ? this.#open() : [];
    if (event.type === "tokens") return this.#delta(event);
    return isEnd(event) ? this.#close(event, endedAtMs) : [];
  }

  #open(): ResponseEvent[] {
    this.#standing = { ...this.#standing, state: "running" };
    const item = { ...toItem(this.#job, this.#standing), content: [] };
    return [
      this.#state("response.in_progress"),
      this.#event("response.output_item.added", { output_index: 0, item }),
      this.#event("response.content_part.added", {
        ...this.#place(),
        part: toPart("", toldOf({})),
      }),
    ];
  }

  #delta(tokens: Extract<JobEvent, { type: "tokens" }>): ResponseEvent[] {
    const { output } = this.#standing;
    this.#reports.push(tokens);
    this.#standing = { ...this.#standing, output: { ...output, text: output.text + tokens.text } };
    if (tokens.text === "" && !tokens.logprobs && !tokens.trace) return [];
    const delta = { ...this.#place(), delta: tokens.text, ...toldOf(tokens) };
    return [this.#event("response.output_text.delta", delta)];
  }

  /** What was opened is closed, however the job ended. */
  #close(
    { type, finish_reason, usage, error }: EndEvent,
    endedAtMs: number | null,
  ): ResponseEvent[] {
    const wasOpen = this.#standing.state === "running";
    const { text } = this.#standing.output;
    const output = { text, finish_reason, ...joinReports(this.#reports) };
    const ended_at = endedAtMs === null ? null : endedAtMs / 1000;
    this.#standing = { state: type, ended_at, output, usage, error };
    const told = toldOf(output);
    const part = toPart(text, told);
    const item = toItem(this.#job, this.#standing, part);
    const closing = wasOpen
      ? [
          this.#event("response.output_text.done", { ...this.#place(), text, ...told }),
          this.#event("response.content_part.done", { ...this.#place(), part }),
          this.#event("response.output_item.done", { output_index: 0, item }),
        ]
      : [];
    return [...closing, this.#state(ENDS[statusOf(this.#standing)], item)];
  }

  #state(type: string, item?: object): ResponseEvent {
    return this.#event(type, { response: toResponse(this.#job, this.#standing, item) });
  }

  #place() {
    return { item_id: messageId(this.#job.id), output_index: 0, content_index: 0 };
  }

  #event(type: string, data: object): ResponseEvent {
    return { type, sequence_number: this.#number++, ...data };
  }
}

/** The clients know no `response.cancelled` and fail on it: the object says how it ended. */
const ENDS: Readonly<Record<ResponseStatus, string>> = {
  queued: "response.queued",
  in_progress: "response.in_progress",
  completed: "response.completed",
  incomplete: "response.incomplete",
  cancelled: "response.incomplete",
  failed: "response.failed",
};
