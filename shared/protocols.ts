/** The OpenAI protocols: what a request asks for, and the answer of its jobs. */
import type { BatchEndpoint } from "./batch-contract.ts";
import type { Job, TerminalState } from "./contract.ts";
import type { JobRecord } from "./job.ts";
import { ChatRequest, CompletionRequest } from "./openai.ts";
import { chatShapes, completionShapes, type Shapes } from "./openai-shapes.ts";
import { toResponseFormat } from "./response-format.ts";
import { responseInput } from "./response-input.ts";
import { toResponse } from "./response-object.ts";
import { ResponseRequest } from "./responses.ts";
import type { Asker, Asking } from "./submission.ts";
import { inputOf, inputsOf, parseRequest } from "./validate.ts";
import { wholeAnswer, type EndedChoice } from "./whole-answer.ts";

export function chatAsking(body: ChatRequest): Asking {
  // The newer name wins, as at OpenAI, where the older one is deprecated.
  const max_tokens = body.max_completion_tokens ?? body.max_tokens;
  const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : null;
  return {
    request: { ...body, max_tokens, logprobs },
    inputs: [inputOf(body)],
    n: body.n ?? 1,
  };
}

export function completionAsking(body: CompletionRequest): Asking {
  return { request: body, inputs: inputsOf(body), n: body.n ?? 1 };
}

/** @throws AppError not_found, invalid_request */
export async function responseAsking(asker: Asker, body: ResponseRequest): Promise<Asking> {
  const { input, previous } = await responseInput(asker, body);
  return {
    request: {
      ...body,
      max_tokens: body.max_output_tokens,
      logprobs: body.include?.length ? (body.top_logprobs ?? 0) : null,
      response_format: body.text?.format && toResponseFormat(body.text.format),
    },
    inputs: [input],
    n: 1,
    asked: {
      ...(body.instructions != null && { instructed: true }),
      ...(previous !== undefined && { previous }),
      ...(body.background && { background: true }),
    },
  };
}

/** A job that ended, as it is kept and as its owner sees it. */
export interface EndedJob {
  readonly record: JobRecord;
  readonly job: Job;
}

/** A protocol from a whole request to its whole answer, without the HTTP around it. */
export interface Protocol {
  /** @throws AppError what is wrong with the request */
  ask(asker: Asker, body: unknown): Promise<Asking>;
  /**
   * @param jobs of the request, all of which succeeded
   * @param n choices of each prompt
   */
  answer(jobs: readonly [EndedJob, ...EndedJob[]], n: number): object;
}

const wholeOf =
  (shapesOf: (job: JobRecord) => Shapes): Protocol["answer"] =>
  (jobs, n) =>
    wholeAnswer(shapesOf(jobs[0].record), jobs.map(endedChoice), n);

/** By the path at which it is spoken. */
export const PROTOCOLS: Readonly<Record<BatchEndpoint, Protocol>> = {
  "/v1/chat/completions": {
    ask: async (_, body) => chatAsking(parseRequest(ChatRequest, body)),
    answer: wholeOf(chatShapes),
  },
  "/v1/completions": {
    ask: async (_, body) => completionAsking(parseRequest(CompletionRequest, body)),
    answer: wholeOf(completionShapes),
  },
  "/v1/responses": {
    ask: (asker, body) => responseAsking(asker, parseRequest(ResponseRequest, body)),
    answer: ([{ record, job }]) => toResponse(record, job),
  },
};

export function endedChoice({ record, job }: EndedJob): EndedChoice {
  const { output, error } = job;
  const type = record.state as TerminalState;
  return {
    piece: output,
    end: { type, finish_reason: output.finish_reason, usage: job.usage!, error },
  };
}
