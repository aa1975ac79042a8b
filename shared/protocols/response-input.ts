/** The input of a response: from a request's items to the messages of a conversation, and back. */
import { AppError } from "../api/errors.ts";
import { isTerminal } from "../api/jobs.ts";
import { contentText } from "../api/input.ts";
import { LIMITS } from "../api/limits.ts";
import type { InputItem, ResponseInputItem } from "../api/response-items.ts";
import type { ResponseRequest } from "../api/responses.ts";
import { messageId } from "../jobs/ids.ts";
import {
  messageTexts,
  type ChatMessage,
  type Input,
  type JobRecord,
  type NewJob,
} from "../jobs/record.ts";
import { parseOutput } from "../tools/parser.ts";
import { referencedMessages } from "./item-references.ts";
import { answerMessage, joinCalls } from "./response-tools.ts";
import { requireOwnJob, requireReader, type RequestContext } from "../submission/submission.ts";

type ChatMessages = readonly ChatMessage[];

export interface ResponseInput {
  readonly input: Input;
  /** Id of the job whose conversation is continued. */
  readonly previous?: string;
}

/**
 * The conversation of a response: its instructions, the conversation of the previous response, and the new messages.
 * @throws AppError not_found, invalid_request, permission_denied
 */
export async function responseInput(
  context: Pick<RequestContext, "principal" | "jobs">,
  request: ResponseRequest,
): Promise<ResponseInput> {
  const { input, instructions, previous_response_id } = request;
  const param = "previous_response_id";
  if (previous_response_id != null) requireReader(context.principal, param);
  const previous =
    previous_response_id == null ? null : await requireOwnJob(context, previous_response_id, param);
  const messages = joinCalls([
    ...(instructions == null ? [] : [{ role: "system" as const, content: instructions }]),
    ...(previous === null ? [] : conversation(previous)),
    ...(typeof input === "string"
      ? [{ role: "user" as const, content: input }]
      : await itemMessages(context, input)),
  ]);
  if (messages.length === 0) {
    throw new AppError("invalid_request", "input must have a message", { param: "input" });
  }
  const texts = messages.flatMap(messageTexts);
  const chars = texts.reduce((sum, { length }) => sum + length, 0);
  if (messages.length > LIMITS.messagesMax || chars > LIMITS.conversationCharsMax) {
    const field = previous === null ? "input" : param;
    const message = `${field}: the whole conversation must have at most ${LIMITS.messagesMax} messages and ${LIMITS.conversationCharsMax} characters`;
    throw new AppError("invalid_request", message, { param: field });
  }
  return { input: { kind: "chat", messages }, ...(previous && { previous: previous.id }) };
}

/** The conversation up to the end of a job, without its instructions, which apply to that job only. */
function conversation(job: JobRecord): ChatMessages {
  if (!isTerminal(job.state)) throw cannotContinue("has not ended yet");
  const { input } = job.generation;
  if (input.kind !== "chat") throw cannotContinue("was made from a prompt, not a conversation");
  const messages = input.messages.slice(job.requestOptions.instructed ? 1 : 0);
  const answer = answerMessage(job.id, parseOutput(job.generation.tools, job.text));
  return answer === null ? messages : [...messages, answer];
}

function cannotContinue(reason: string): AppError {
  const param = "previous_response_id";
  return new AppError("invalid_request", `${param}: that response ${reason}`, { param });
}

/** The messages that items are or refer to. Reasoning is left out. */
async function itemMessages(
  context: Pick<RequestContext, "principal" | "jobs">,
  items: readonly InputItem[],
): Promise<ChatMessages> {
  const referenced = await referencedMessages(context, items);
  return items.flatMap((item) => {
    if (item.type === "reasoning") return [];
    if (item.type === "item_reference") return referenced.get(item.id) ?? [];
    if (item.type === "function_call") {
      const { call_id: id, name, arguments: args } = item;
      return { role: "assistant", content: "", toolCalls: [{ id, name, arguments: args }] };
    }
    if (item.type === "function_call_output") {
      return { role: "tool", content: contentText(item.output), toolCallId: item.call_id };
    }
    return { role: item.role, content: contentText(item.content) };
  });
}

/** The messages that a job continues, the oldest first. A prompt of token ids has none: only workers can convert ids to text. */
export function toInputItems({
  id,
  generation: { input },
  requestOptions: { instructed },
}: Pick<NewJob, "id" | "generation" | "requestOptions">): ResponseInputItem[] {
  if (input.kind === "tokens") return [];
  const messages: ChatMessages =
    input.kind === "text" ? [{ role: "user", content: input.text }] : input.messages;
  return messages
    .flatMap((message, i) => messageItems(message, `${messageId(id)}-in-${i}`))
    .slice(instructed ? 1 : 0);
}

/** The items of a message: its text, if it has one, and each of its calls. */
function messageItems(message: ChatMessage, id: string): ResponseInputItem[] {
  const { role, content: text, toolCalls = [], toolCallId = "" } = message;
  const status = "completed" as const;
  if (role === "tool") {
    return [{ id, type: "function_call_output", status, call_id: toolCallId, output: text }];
  }
  const calls = toolCalls.map(({ id: call_id, name, arguments: args }, i) => {
    const item = { type: "function_call", status, call_id, name, arguments: args } as const;
    return { id: `${id}-call-${i}`, ...item };
  });
  if (text === "" && calls.length > 0) return calls;
  const part =
    role === "assistant"
      ? ({ type: "output_text", text, annotations: [], logprobs: [] } as const)
      : ({ type: "input_text", text } as const);
  return [{ id, type: "message", status, role, content: [part] }, ...calls];
}

/** The `instructions` of a response's request, or null. */
export function requestInstructions({
  generation: { input },
  requestOptions: { instructed },
}: Pick<NewJob, "generation" | "requestOptions">): string | null {
  return instructed && input.kind === "chat" ? (input.messages[0]?.content ?? null) : null;
}
