/**
 * The reply objects of the OpenAI protocols, as the official clients parse them: a whole answer, and the chunks of
 * a streamed one. Shapes only: what is said when is in answer.ts.
 */
import type { FinishReason, Usage } from "../shared/contract.ts";
import type { NewJob } from "../shared/job.ts";

/** How one protocol says what a job's events say. */
export interface Shapes {
  whole(text: string, finishReason: FinishReason | null, usage: Usage): object;
  /** The chunk before any text, or null if the protocol has none. */
  opening(): object | null;
  delta(text: string): object;
  closing(finishReason: FinishReason | null): object;
  /** The chunk that carries nothing but `usage`. */
  bare(): object;
}

/** `POST /v1/chat/completions` */
export function chatShapes(job: NewJob): Shapes {
  const head = (object: string) => ({ ...headOf(job), id: `chatcmpl-${job.id}`, object });
  const chunk = (delta: object, finish_reason: FinishReason | null) => ({
    ...head("chat.completion.chunk"),
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
  });
  return {
    whole: (content, finish_reason, usage) => {
      const message = { role: "assistant", content, refusal: null };
      const choices = [{ index: 0, message, logprobs: null, finish_reason }];
      return { ...head("chat.completion"), choices, usage };
    },
    opening: () => chunk({ role: "assistant", content: "", refusal: null }, null),
    delta: (content) => chunk({ content }, null),
    closing: (finishReason) => chunk({}, finishReason),
    bare: () => ({ ...head("chat.completion.chunk"), choices: [] }),
  };
}

/** `POST /v1/completions`: a chunk has the shape of the whole. */
export function completionShapes(job: NewJob): Shapes {
  const head = { ...headOf(job), id: `cmpl-${job.id}`, object: "text_completion" };
  const chunk = (text: string, finish_reason: FinishReason | null) => ({
    ...head,
    choices: [{ index: 0, text, logprobs: null, finish_reason }],
  });
  return {
    whole: (text, finishReason, usage) => ({ ...chunk(text, finishReason), usage }),
    opening: () => null,
    delta: (text) => chunk(text, null),
    closing: (finishReason) => chunk("", finishReason),
    bare: () => ({ ...head, choices: [] }),
  };
}

function headOf(job: NewJob) {
  return { created: Math.floor(job.createdAtMs / 1000), model: job.generation.model };
}
