/**
 * The reply objects of the OpenAI protocols, as the official clients parse them: a whole answer, and the chunks of
 * a streamed one. Shapes only: what is said when is in answer.ts. Of what these protocols have no word for, a choice has
 * `trace`, as the job's events have it.
 */
import type { FinishReason, Usage } from "./contract.ts";
import type { TokenReports } from "./reports.ts";
import type { NewJob } from "./job.ts";
import { chatLogprobs, CompletionLogprobs } from "./openai-logprobs.ts";

/** What an answer says of the (first) job that it is of: nothing of it ever changes. */
export type AnsweredJob = Pick<NewJob, "id" | "generation" | "asked" | "metadata" | "createdAtMs">;

/** Text that a job generated, all of it or the next piece, and what is told of its tokens. */
export interface Piece extends TokenReports {
  readonly text: string;
}

/** How one protocol says what the events of a request's jobs say. The pieces of a choice are given in order. */
export interface Shapes {
  whole(choices: readonly object[], usage: Usage): object;
  /** A choice of the whole answer. */
  choice(index: number, piece: Piece, finishReason: FinishReason | null): object;
  /** The chunk before any text, or null if the protocol has none. */
  opening(index: number): object | null;
  delta(index: number, piece: Piece): object;
  closing(index: number, finishReason: FinishReason | null): object;
  /** The chunk that carries nothing but `usage`. */
  bare(): object;
}

/** `POST /v1/chat/completions` */
export function chatShapes(job: AnsweredJob): Shapes {
  const head = (object: string) => ({ ...headOf(job), id: `chatcmpl-${job.id}`, object });
  const told = (piece: TokenReports) => ({ logprobs: chatLogprobs(piece), ...traceOf(piece) });
  const chunk = (
    index: number,
    delta: object,
    finish_reason: FinishReason | null,
    piece: TokenReports = {},
  ) => ({
    ...head("chat.completion.chunk"),
    choices: [{ index, delta, ...told(piece), finish_reason }],
  });
  return {
    whole: (choices, usage) => ({ ...head("chat.completion"), choices, usage }),
    choice: (index, piece, finish_reason) => {
      const message = { role: "assistant", content: piece.text, refusal: null };
      return { index, message, ...told(piece), finish_reason };
    },
    opening: (index) => chunk(index, { role: "assistant", content: "", refusal: null }, null),
    delta: (index, piece) => chunk(index, { content: piece.text }, null, piece),
    closing: (index, finishReason) => chunk(index, {}, finishReason),
    bare: () => ({ ...head("chat.completion.chunk"), choices: [] }),
  };
}

/** `POST /v1/completions`: a chunk has the shape of the whole. */
export function completionShapes(job: AnsweredJob): Shapes {
  const head = { ...headOf(job), id: `cmpl-${job.id}`, object: "text_completion" };
  const logprobs = Array.from({ length: job.asked.choices ?? 1 }, () => new CompletionLogprobs());
  const choice = (index: number, piece: Piece, finish_reason: FinishReason | null) => ({
    index,
    text: piece.text,
    logprobs: logprobs[index]!.next(piece),
    ...traceOf(piece),
    finish_reason,
  });
  const chunk = (...args: Parameters<typeof choice>) => ({ ...head, choices: [choice(...args)] });
  return {
    whole: (choices, usage) => ({ ...head, choices, usage }),
    choice,
    opening: () => null,
    delta: (index, piece) => chunk(index, piece, null),
    closing: (index, finishReason) => chunk(index, { text: "" }, finishReason),
    bare: () => ({ ...head, choices: [] }),
  };
}

const traceOf = ({ trace }: TokenReports) => (trace ? { trace } : {});

function headOf(job: AnsweredJob) {
  return { created: Math.floor(job.createdAtMs / 1000), model: job.generation.model };
}
