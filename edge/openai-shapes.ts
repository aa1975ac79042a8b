/**
 * The reply objects of the OpenAI protocols, as the official clients parse them: a whole answer, and the chunks of
 * a streamed one. Shapes only: what is said when is in answer.ts. Of what these protocols have no word for, a choice has
 * `trace`, as the job's events have it.
 */
import type { FinishReason, Usage } from "../shared/contract.ts";
import type { TokenReports } from "../shared/reports.ts";
import type { NewJob } from "../shared/job.ts";
import { chatLogprobs, CompletionLogprobs } from "./openai-logprobs.ts";

/** Text that a job generated, all of it or the next piece, and what is told of its tokens. */
export interface Piece extends TokenReports {
  readonly text: string;
}

/** How one protocol says what a job's events say. An answer's pieces are given in order. */
export interface Shapes {
  whole(piece: Piece, finishReason: FinishReason | null, usage: Usage): object;
  /** The chunk before any text, or null if the protocol has none. */
  opening(): object | null;
  delta(piece: Piece): object;
  closing(finishReason: FinishReason | null): object;
  /** The chunk that carries nothing but `usage`. */
  bare(): object;
}

/** `POST /v1/chat/completions` */
export function chatShapes(job: NewJob): Shapes {
  const head = (object: string) => ({ ...headOf(job), id: `chatcmpl-${job.id}`, object });
  const told = (piece: TokenReports) => ({ logprobs: chatLogprobs(piece), ...traceOf(piece) });
  const chunk = (delta: object, finish_reason: FinishReason | null, piece: TokenReports = {}) => ({
    ...head("chat.completion.chunk"),
    choices: [{ index: 0, delta, ...told(piece), finish_reason }],
  });
  return {
    whole: (piece, finish_reason, usage) => {
      const message = { role: "assistant", content: piece.text, refusal: null };
      const choices = [{ index: 0, message, ...told(piece), finish_reason }];
      return { ...head("chat.completion"), choices, usage };
    },
    opening: () => chunk({ role: "assistant", content: "", refusal: null }, null),
    delta: (piece) => chunk({ content: piece.text }, null, piece),
    closing: (finishReason) => chunk({}, finishReason),
    bare: () => ({ ...head("chat.completion.chunk"), choices: [] }),
  };
}

/** `POST /v1/completions`: a chunk has the shape of the whole. */
export function completionShapes(job: NewJob): Shapes {
  const head = { ...headOf(job), id: `cmpl-${job.id}`, object: "text_completion" };
  const logprobs = new CompletionLogprobs();
  const chunk = (piece: Piece, finish_reason: FinishReason | null) => ({
    ...head,
    choices: [
      {
        index: 0,
        text: piece.text,
        logprobs: logprobs.next(piece),
        ...traceOf(piece),
        finish_reason,
      },
    ],
  });
  return {
    whole: (piece, finishReason, usage) => ({ ...chunk(piece, finishReason), usage }),
    opening: () => null,
    delta: (piece) => chunk(piece, null),
    closing: (finishReason) => chunk({ text: "" }, finishReason),
    bare: () => ({ ...head, choices: [] }),
  };
}

const traceOf = ({ trace }: TokenReports) => (trace ? { trace } : {});

function headOf(job: NewJob) {
  return { created: Math.floor(job.createdAtMs / 1000), model: job.generation.model };
}
