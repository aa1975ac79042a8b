/** What a checked request of each OpenAI protocol asks for. */
import type { ChatRequest, CompletionRequest } from "./openai.ts";
import { toResponseFormat } from "./response-format.ts";
import { responseInput } from "./response-input.ts";
import type { ResponseRequest } from "./responses.ts";
import type { Asker, Asking } from "./submission.ts";
import { inputOf, inputsOf } from "./validate.ts";

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
