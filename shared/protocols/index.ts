/** The OpenAI protocols: from a request's body to the generations that it requests, and from its ended jobs to the reply. */
import type { BatchEndpoint } from "../api/batches.ts";
import {
  ChatRequest,
  CompletionRequest,
  type ChatCompletion,
  type TextCompletion,
} from "../api/chat-and-completions.ts";
import type { Job, TerminalState } from "../api/jobs.ts";
import { includesLogprobs, ResponseRequest, type ResponseObject } from "../api/responses.ts";
import { AppError } from "../api/errors.ts";
import { LIMITS } from "../api/limits.ts";
import type { JobRecord } from "../jobs/record.ts";
import type { GenerationRequest, RequestContext } from "../submission/submission.ts";
import { inputOf, inputsOf, parseRequest } from "../submission/validate.ts";
import { wholeReply, type EndedChoice } from "./whole-reply.ts";
import { chatReplies, completionReplies, type ReplyBuilder } from "./chat-replies.ts";
import { toResponseFormat, withResponseFieldNames } from "./response-format.ts";
import { responseInput } from "./response-input.ts";
import { toResponse } from "./response-object.ts";
import { toChatToolChoice, toChatTools } from "./response-tools.ts";
import { outputFormat, withFormatNames } from "./structured-outputs.ts";

export function fromChat(body: ChatRequest): GenerationRequest {
  // The newer name wins, as in OpenAI's API, where the older one is deprecated.
  const max_tokens = body.max_completion_tokens ?? body.max_tokens;
  const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : null;
  const format = outputFormat(body, body.response_format);
  return {
    request: { ...body, max_tokens, logprobs, response_format: format.response_format },
    inputs: [inputOf(body)],
    n: body.n ?? 1,
    fillsContext: true,
    renameError: withFormatNames(format),
    ...promptLogprobsOptions(body, null),
  };
}

export function fromCompletion(body: CompletionRequest): GenerationRequest {
  const inputs = inputsOf(body);
  const n = body.n ?? 1;
  const choices = inputs.length * n;
  if (body.stream && choices > LIMITS.choicesMax) {
    const message = `stream must be false with more than ${LIMITS.choicesMax} choices, received ${choices}`;
    throw new AppError("invalid_request", message, { param: "stream" });
  }
  // The text of token ids is known once a worker has read them.
  const needsTokens = body.logprobs != null || inputs.some(({ kind }) => kind === "tokens");
  const echoed = body.echo && needsTokens ? (body.logprobs ?? 0) : null;
  if (body.stream && body.echo && (echoed !== null || inputs.length > 1)) {
    const message =
      "stream must be false with echo, except for one prompt of text without log-probabilities";
    throw new AppError("invalid_request", message, { param: "stream" });
  }
  const options = promptLogprobsOptions(body, echoed);
  const requestOptions = { ...options.requestOptions, ...(body.echo && { echo: true }) };
  const format = outputFormat(body, body.response_format);
  return {
    request: { ...body, response_format: format.response_format },
    inputs,
    n,
    ...options,
    requestOptions,
    renameError: withFormatNames(format),
  };
}

/** @param echoed how many of the likeliest tokens the repeated prompt needs; null for no log-probabilities */
function promptLogprobsOptions(
  { prompt_logprobs: asked, stream }: Pick<CompletionRequest, "prompt_logprobs" | "stream">,
  echoed: number | null,
): Pick<GenerationRequest, "promptLogprobs" | "requestOptions"> {
  if (stream && asked != null) {
    const message = "prompt_logprobs needs stream: false";
    throw new AppError("invalid_request", message, { param: "prompt_logprobs" });
  }
  if (asked == null && echoed === null) return {};
  return {
    promptLogprobs: Math.max(asked ?? 0, echoed ?? 0),
    ...(asked != null && { requestOptions: { promptLogprobs: asked } }),
  };
}

/** @throws AppError not_found, invalid_request */
export async function fromResponse(
  context: RequestContext,
  body: ResponseRequest,
): Promise<GenerationRequest> {
  const { input, previous } = await responseInput(context, body);
  const own = body.text?.format && toResponseFormat(body.text.format);
  const format = outputFormat(body, own, "text.format");
  return {
    request: {
      ...body,
      tools: body.tools && toChatTools(body.tools),
      tool_choice: body.tool_choice && toChatToolChoice(body.tool_choice),
      max_tokens: body.max_output_tokens,
      logprobs: includesLogprobs(body) ? (body.top_logprobs ?? 0) : null,
      response_format: format.response_format,
    },
    inputs: [input],
    n: 1,
    fillsContext: true,
    renameError: (error) => withResponseFieldNames(withFormatNames(format)(error)),
    requestOptions: {
      protocol: "responses",
      ...(body.instructions != null && { instructed: true }),
      ...(previous !== undefined && { previous }),
      ...(body.background && { background: true }),
    },
  };
}

/** A job that ended: its record, and the job as its owner sees it. */
export interface EndedJob {
  readonly record: JobRecord;
  readonly job: Job;
}

/** The jobs of one request, all of which succeeded. */
type EndedJobs = readonly [EndedJob, ...EndedJob[]];

/** A protocol without HTTP: from a whole request to its whole reply. */
export interface Protocol<Whole = object> {
  /** The field of a request that has the prompt. */
  readonly promptField: string;
  /** @throws AppError what is wrong with the request */
  toGenerationRequest(context: RequestContext, body: unknown): Promise<GenerationRequest>;
  /** @param n choices of each prompt */
  toReply(jobs: EndedJobs, n: number): Whole;
}

const replyWith =
  <Whole>(repliesOf: (job: JobRecord) => ReplyBuilder<Whole>) =>
  (jobs: EndedJobs, n: number): Whole =>
    wholeReply(repliesOf(jobs[0].record), jobs.map(endedChoice), n);

interface Replies {
  readonly "/v1/chat/completions": ChatCompletion;
  readonly "/v1/completions": TextCompletion;
  readonly "/v1/responses": ResponseObject;
}

/** By path. */
export const PROTOCOLS: { readonly [Path in BatchEndpoint]: Protocol<Replies[Path]> } = {
  "/v1/chat/completions": {
    toGenerationRequest: async (_, body) => fromChat(parseRequest(ChatRequest, body)),
    toReply: replyWith(chatReplies),
    promptField: "messages",
  },
  "/v1/completions": {
    toGenerationRequest: async (_, body) => fromCompletion(parseRequest(CompletionRequest, body)),
    toReply: replyWith(completionReplies),
    promptField: "prompt",
  },
  "/v1/responses": {
    toGenerationRequest: (context, body) =>
      fromResponse(context, parseRequest(ResponseRequest, body)),
    toReply: ([{ record, job }]) => toResponse(record, job),
    promptField: "input",
  },
};

/** The output of an ended job and how it ended. The job must be in a terminal state. */
export function endedChoice({ record, job }: EndedJob): EndedChoice {
  const { output, error } = job;
  const type = record.state as TerminalState;
  return {
    output: { ...output, input: record.generation.input },
    end: {
      type,
      finish_reason: output.finish_reason,
      ...(output.stop_sequence !== undefined && { stop_sequence: output.stop_sequence }),
      usage: job.usage!,
      error,
    },
  };
}
