/**
 * Items that a response refers to by their ids, as the AI SDK sends an earlier output instead of its text. Ids of input items
 * are those of `GET /v1/responses/{id}/input_items`.
 */
import { AppError } from "../api/errors.ts";
import { isTerminal } from "../api/jobs.ts";
import { LIMITS } from "../api/limits.ts";
import type { InputItem } from "../api/response-items.ts";
import type { ChatMessage, JobOutput, JobRecord } from "../jobs/record.ts";
import { parseOutput, type ParsedOutput } from "../tools/parser.ts";
import { callId } from "../tools/tools.ts";
import { callOfItemId } from "./response-tools.ts";
import {
  jobNotFound,
  requireOwnJob,
  requireReader,
  type RequestContext,
} from "../submission/submission.ts";

type Context = Pick<RequestContext, "principal" | "jobs">;
type Reference = Extract<InputItem, { type: "item_reference" }>;

/** Outputs that are read at the same time: each has at most as many tokens as a job can generate. */
const READ_AT_ONCE = 32;

/** An output that a conversation continues is part of it, with the markers of its calls. */
const OUTPUT_CHARS_MAX = 2 * LIMITS.conversationCharsMax;

const INPUT_ITEM = /^msg_(.+)-in-(\d{1,4})(?:-call-(\d{1,4}))?$/;

/**
 * The messages that references stand for, by their ids.
 * @throws AppError not_found, invalid_request
 */
export async function referencedMessages(
  context: Context,
  items: readonly InputItem[],
): Promise<ReadonlyMap<string, ChatMessage>> {
  const messages = new Map<string, ChatMessage>();
  const isReference = (item: InputItem): item is Reference => item.type === "item_reference";
  const params = new Map(
    items.flatMap((item, i) => (isReference(item) ? [[item.id, `input.${i}.id`] as const] : [])),
  );
  const inputs = [...params].filter(([id]) => INPUT_ITEM.test(id));
  const outputs = [...params].filter(([id]) => !INPUT_ITEM.test(id));
  await readInputs(context, inputs, messages);
  const parsed = await readOutputs(context, outputs);
  for (const [id, param] of outputs) {
    messages.set(id, outputMessage(id, param, parsed.get(jobOf(id))!));
  }
  return messages;
}

type ReferenceParam = readonly [id: string, param: string];

/** The job of the item's id: of a message or of a call. */
const jobOf = (id: string) => callOfItemId(id)?.jobId ?? id.replace(/^msg_/, "job_");

/**
 * The outputs that items are parts of, by the ids of their jobs. Each is read and parsed once, however many of its items are
 * named.
 * @throws AppError invalid_request, not_found
 */
async function readOutputs(
  context: Context,
  references: readonly ReferenceParam[],
): Promise<ReadonlyMap<string, ParsedOutput>> {
  const params = new Map<string, string>();
  for (const [id, param] of references) {
    if (!params.has(jobOf(id))) params.set(jobOf(id), param);
  }
  const wanted = [...params];
  const parsed = new Map<string, ParsedOutput>();
  let chars = 0;
  for (let at = 0; at < wanted.length; at += READ_AT_ONCE) {
    const some = wanted.slice(at, at + READ_AT_ONCE);
    const read = await Promise.all(some.map(([jobId, param]) => readOutput(context, jobId, param)));
    for (const [i, { text, outputTools }] of read.entries()) {
      parsed.set(some[i]![0], parseOutput(outputTools, text));
      chars += text.length;
    }
    if (chars > OUTPUT_CHARS_MAX) {
      const [, param] = some.at(-1)!;
      const message = `${param}: the outputs that items refer to must have at most ${OUTPUT_CHARS_MAX} characters`;
      throw new AppError("invalid_request", message, { param });
    }
  }
  return parsed;
}

/** An output that has ended. */
async function readOutput(
  { principal, jobs }: Context,
  jobId: string,
  param: string,
): Promise<JobOutput> {
  requireReader(principal, param);
  const output: JobOutput | null = await jobs.output(jobId);
  if (output === null || output.tenant !== principal.tenant) throw jobNotFound(param);
  if (!isTerminal(output.state)) {
    throw new AppError("invalid_request", `${param}: that response has not ended yet`, { param });
  }
  return output;
}

/** The text of an output, or one of its calls. @param id of its message, or of the item of the call */
function outputMessage(id: string, param: string, { text, calls }: ParsedOutput): ChatMessage {
  const call = callOfItemId(id);
  if (!call) return { role: "assistant", content: text };
  const called = calls[call.index];
  if (!called) throw jobNotFound(param);
  const toolCall = { id: callId(call.jobId, call.index), ...called };
  return { role: "assistant", content: "", toolCalls: [toolCall] };
}

/** Input items need the whole record of their job, so only a few jobs may be named. */
async function readInputs(
  context: Context,
  references: readonly ReferenceParam[],
  messages: Map<string, ChatMessage>,
): Promise<void> {
  const records = new Map<string, JobRecord>();
  for (const [id, param] of references) {
    const [, job, index, callIndex] = INPUT_ITEM.exec(id)!;
    if (!records.has(job!) && records.size === LIMITS.referencedInputsMax) {
      const message = `${param}: a request may refer to input items of at most ${LIMITS.referencedInputsMax} responses`;
      throw new AppError("invalid_request", message, { param });
    }
    requireReader(context.principal, param);
    const record = records.get(job!) ?? (await requireOwnJob(context, `job_${job}`, param));
    records.set(job!, record);
    const { input } = record.generation;
    const prompt: ChatMessage[] =
      input.kind === "text" ? [{ role: "user", content: input.text }] : [];
    const message = (input.kind === "chat" ? input.messages : prompt)[Number(index)];
    if (message === undefined) throw jobNotFound(param);
    const { toolCalls } = message;
    const hasOwnCalls = toolCalls !== undefined && callIndex === undefined;
    if (hasOwnCalls) messages.set(id, withoutCalls(message));
    else if (callIndex === undefined) messages.set(id, message);
    else messages.set(id, callOf(message, Number(callIndex), param));
  }
}

/** A message without its calls, which are items of their own. */
function withoutCalls({ role, content }: ChatMessage): ChatMessage {
  return { role, content };
}

function callOf({ toolCalls = [] }: ChatMessage, index: number, param: string): ChatMessage {
  const call = toolCalls[index];
  if (!call) throw jobNotFound(param);
  return { role: "assistant", content: "", toolCalls: [call] };
}
