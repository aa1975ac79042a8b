/** The input of a response: from items to the messages of a conversation, and back. */
import { isTerminal } from "./contract.ts";
import { AppError } from "./errors.ts";
import type { Input, JobRecord, NewJob } from "./job.ts";
import { LIMITS } from "./limits.ts";
import type { InputItem, ResponseRequest } from "./responses.ts";
import { messageId } from "./job-names.ts";
import { requireJobOf, type Asker } from "./submission.ts";

type ChatMessages = Extract<Input, { kind: "chat" }>["messages"];

export interface ResponseInput {
  readonly input: Input;
  /** Id of the job whose conversation goes on. */
  readonly previous?: string;
}

/** Instructions, the conversation so far, and what is new. @throws AppError not_found, invalid_request */
export async function responseInput(
  asker: Pick<Asker, "principal" | "jobs">,
  request: ResponseRequest,
): Promise<ResponseInput> {
  const { input, instructions, previous_response_id: name } = request;
  const previous = name == null ? null : await requireJobOf(asker, name, "previous_response_id");
  const messages: ChatMessages = [
    ...(instructions == null ? [] : [{ role: "system" as const, content: instructions }]),
    ...(previous === null ? [] : conversation(previous)),
    ...(typeof input === "string" ? [{ role: "user" as const, content: input }] : []),
    ...(typeof input === "string" ? [] : input.map(toMessage)),
  ];
  const chars = messages.reduce((sum, { content }) => sum + content.length, 0);
  if (messages.length > LIMITS.messagesMax || chars > LIMITS.conversationCharsMax) {
    const message = `the whole conversation must have at most ${LIMITS.messagesMax} messages and ${LIMITS.conversationCharsMax} characters`;
    const param = previous === null ? "input" : "previous_response_id";
    throw new AppError("invalid_request", `${param}: ${message}`, { param });
  }
  return { input: { kind: "chat", messages }, ...(previous && { previous: previous.id }) };
}

/** What was said up to the end of a job, without instructions, which are a response's own. */
function conversation(job: JobRecord): ChatMessages {
  if (!isTerminal(job.state)) throw cannotGoOn("has not ended yet");
  const { input } = job.generation;
  if (input.kind !== "chat") throw cannotGoOn("was made from a plain prompt, not a conversation");
  const said = input.messages.slice(job.asked.instructed ? 1 : 0);
  return job.text === "" ? said : [...said, { role: "assistant", content: job.text }];
}

function cannotGoOn(why: string): AppError {
  const param = "previous_response_id";
  return new AppError("invalid_request", `${param}: that response ${why}`, { param });
}

/** A message's text parts are paragraphs of one text. */
function toMessage({ role, content }: InputItem): ChatMessages[number] {
  const text = typeof content === "string" ? content : content.map((part) => part.text).join("\n");
  return { role, content: text };
}

/** The items that a job went on from, oldest first; token ids have no text here. */
export function inputItems({ id, generation: { input }, asked }: JobRecord) {
  if (input.kind === "tokens") return [];
  const messages: ChatMessages =
    input.kind === "text" ? [{ role: "user", content: input.text }] : input.messages;
  const items = messages.map(({ role, content }, i) => ({
    id: `${messageId(id)}-in-${i}`,
    type: "message",
    status: "completed",
    role,
    content: [
      role === "assistant"
        ? { type: "output_text", text: content, annotations: [], logprobs: [] }
        : { type: "input_text", text: content },
    ],
  }));
  return items.slice(asked.instructed ? 1 : 0);
}

/** The `instructions` that a response was given, or null. */
export function instructionsOf({
  generation: { input },
  asked,
}: Pick<NewJob, "generation" | "asked">): string | null {
  return asked.instructed && input.kind === "chat" ? (input.messages[0]?.content ?? null) : null;
}
