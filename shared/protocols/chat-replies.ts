/**
 * The replies of chats and completions, whole and in chunks, as the official clients parse them. edge/answers decides when
 * a chunk is sent. OpenAI's choices have no member for the steering trace: here it is `trace`.
 */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  TextCompletion,
} from "../api/chat-and-completions.ts";
import type { FinishReason, Usage } from "../api/job-parts.ts";
import type { TokenDetails } from "../api/token-details.ts";
import type { Input, JobRecord } from "../jobs/record.ts";
import { choiceIds } from "../jobs/ids.ts";
import { OutputParser } from "../tools/parser.ts";
import { CompletionLogprobsBuilder, joinCompletionLogprobs, toChatLogprobs } from "./logprobs.ts";
import { echoedText, toPromptLogprobs } from "./prompt-logprobs.ts";
import { outputDelta, outputWithCalls, type OutputWithCalls } from "./tool-calls.ts";

/** The job that a reply belongs to, or the first one of several: the members that never change. */
export type AnsweredJob = Pick<
  JobRecord,
  "id" | "generation" | "requestOptions" | "metadata" | "createdAtMs"
>;

/** Generated text with the details of its tokens: all of a job's text, or the next piece of it. */
export interface GeneratedText extends TokenDetails {
  readonly text: string;
}

/** The output of a job that ended, and what it was generated from. */
export interface WholeText extends GeneratedText {
  readonly input: Input;
}

/** A whole choice: the output of a job that ended. */
export interface WholeChoice {
  readonly output: WholeText;
  readonly finishReason: FinishReason | null;
}

/** Builds one request's replies in one protocol. The pieces of a choice are passed in order. */
export interface ReplyBuilder<Whole = object, Chunk = object> {
  /** The field of a request that has the prompt. */
  readonly promptField: string;
  /** Whether a reader that continues after some piece needs the earlier pieces to be passed first, without their chunks. */
  readonly needsAllPieces: boolean;
  whole(choices: readonly WholeChoice[], usage: Usage): Whole;
  /** The chunk before any text of a choice; null if the protocol has none. */
  firstChunk(index: number): Chunk | null;
  /** Null if the piece adds nothing to the reply yet. */
  textChunk(index: number, piece: GeneratedText): Chunk | null;
  lastChunk(index: number, finishReason: FinishReason | null): Chunk;
  usageChunk(usage: Usage): Chunk;
}

/** `POST /v1/chat/completions` */
export function chatReplies(job: AnsweredJob): ReplyBuilder<ChatCompletion, ChatCompletionChunk> {
  const head = { id: `chatcmpl-${job.id}`, ...commonFields(job) };
  const details = (piece: TokenDetails) => ({
    logprobs: toChatLogprobs(piece),
    ...traceField(piece),
  });
  type Delta = ChatCompletionChunk["choices"][number]["delta"];
  const chunk = (
    index: number,
    delta: Delta,
    finish_reason: FinishReason | null = null,
    piece: TokenDetails = {},
  ): ChatCompletionChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index, delta, ...details(piece), finish_reason }],
  });
  const { generation } = job;
  const ids = choiceIds(job);
  const parsers = ids.map(() => new OutputParser(generation.tools));
  return {
    promptField: "messages",
    needsAllPieces: generation.tools !== undefined,
    whole: (choices, usage) => ({
      ...head,
      object: "chat.completion",
      choices: choices.map(({ output, finishReason }, index) => ({
        index,
        message: toMessage(outputWithCalls(ids[index]!, generation, output.text)),
        ...details(output),
        finish_reason: finishReason,
      })),
      ...promptLogprobsField(job, choices[0]!.output),
      usage,
    }),
    firstChunk: (index) => chunk(index, { role: "assistant", content: "", refusal: null }),
    textChunk: (index, piece) => {
      const delta = outputDelta(ids[index]!, parsers[index]!.push(piece.text));
      const isEmpty = Object.keys(delta).length === 0;
      if (isEmpty && !piece.logprobs && !piece.trace) return null;
      return chunk(index, isEmpty ? { content: "" } : delta, null, piece);
    },
    lastChunk: (index, finishReason) =>
      chunk(index, outputDelta(ids[index]!, parsers[index]!.end()), finishReason),
    usageChunk: (usage) => ({ ...head, object: "chat.completion.chunk", choices: [], usage }),
  };
}

function toMessage({ text, calls }: OutputWithCalls) {
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    refusal: null,
    ...(calls.length > 0 && { tool_calls: calls }),
  } as const;
}

/** `POST /v1/completions`: a chunk has the same form as the whole reply. */
export function completionReplies(job: AnsweredJob): ReplyBuilder<TextCompletion, TextCompletion> {
  const head = { id: `cmpl-${job.id}`, object: "text_completion", ...commonFields(job) } as const;
  const logprobs = Array.from(
    { length: job.requestOptions.choices ?? 1 },
    () => new CompletionLogprobsBuilder(),
  );
  const choice = (index: number, piece: GeneratedText, finish_reason: FinishReason | null) => ({
    index,
    text: piece.text,
    logprobs: logprobs[index]!.next(piece),
    ...traceField(piece),
    finish_reason,
  });
  const { echo } = job.requestOptions;
  const { input, logprobs: topCount } = job.generation;
  const wholeChoice = ({ output, finishReason }: WholeChoice, i: number) => {
    const prompt = output.prompt_logprobs;
    const promptText = echo ? echoedText(output.input, prompt) : "";
    // Before those of the output, whose offsets follow.
    const first =
      echo && prompt && topCount != null && logprobs[i]!.echo(prompt, promptText, topCount);
    const whole = choice(i, output, finishReason);
    return {
      ...whole,
      text: promptText + output.text,
      logprobs: first ? joinCompletionLogprobs(first, whole.logprobs) : whole.logprobs,
      ...promptLogprobsField(job, output),
    };
  };
  return {
    promptField: "prompt",
    needsAllPieces: false,
    whole: (choices, usage) => ({ ...head, choices: choices.map(wholeChoice), usage }),
    firstChunk: (index) =>
      echo ? { ...head, choices: [choice(index, { text: echoedText(input) }, null)] } : null,
    textChunk: (index, piece) =>
      piece.text === "" && !piece.logprobs && !piece.trace
        ? null
        : { ...head, choices: [choice(index, piece, null)] },
    lastChunk: (index, finishReason) => ({
      ...head,
      choices: [choice(index, { text: "" }, finishReason)],
    }),
    usageChunk: (usage) => ({ ...head, choices: [], usage }),
  };
}

const promptLogprobsField = (
  { requestOptions: { promptLogprobs: count } }: AnsweredJob,
  { prompt_logprobs: prompt }: TokenDetails,
) =>
  count !== undefined && prompt !== undefined
    ? { prompt_logprobs: toPromptLogprobs(prompt, count) }
    : {};

const traceField = ({ trace }: TokenDetails) => (trace ? { trace } : {});

function commonFields({ createdAtMs, generation }: AnsweredJob) {
  return { created: Math.floor(createdAtMs / 1000), model: generation.model };
}
