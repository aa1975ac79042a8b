/** Anthropic's Messages API: from a request to the generation that it asks for, and from a job's output to the message. */
import type { MessageObject, MessageRequest, MessageUsage, StopReason } from "../api/messages.ts";
import type { EndEvent } from "../api/job-events.ts";
import type { Usage } from "../api/job-parts.ts";
import { AppError } from "../api/errors.ts";
import type { ToolUseBlock } from "../api/message-tools.ts";
import { messageId } from "../jobs/ids.ts";
import { parseOutput } from "../tools/parser.ts";
import { callId, type FunctionCall } from "../tools/tools.ts";
import { conversationOf, toolFields } from "./message-input.ts";
import type { GenerationRequest } from "../submission/submission.ts";
import type { AnsweredJob } from "./chat-replies.ts";
import { renamed, withFieldNames, type FieldNames } from "./field-names.ts";

export function fromMessages(body: MessageRequest): GenerationRequest {
  const { stop_sequences, output_config, metadata, tools: _, tool_choice: __, ...fields } = body;
  const format = output_config?.format;
  return {
    request: {
      ...fields,
      stop: stop_sequences,
      user: metadata?.user_id,
      ...toolFields(body),
      ...(format && {
        response_format: {
          type: "json_schema",
          json_schema: { name: "output", schema: format.schema },
        },
      }),
    },
    inputs: [conversationOf(body)],
    n: 1,
    fillsContext: true,
    renameError: withMessageFieldNames,
  };
}

/** [a job's field, the same field of a message request]. The first entry that fits an error is used. */
const MESSAGE_FIELD_NAMES: FieldNames = [
  ["response_format.json_schema", "output_config.format"],
  ["response_format", "output_config.format"],
];

/** `tools.0.function.parameters` is `tools.0.input_schema` here. Other values are returned unchanged. */
function withMessageFieldNames(error: unknown): unknown {
  if (!(error instanceof AppError) || error.param?.startsWith("tools.") !== true) {
    return withFieldNames(error, MESSAGE_FIELD_NAMES);
  }
  return renamed(error, (text) =>
    text
      .replace(/(tools\.\d+)(?:\.function)?\.parameters/, "$1.input_schema")
      .replace(/(tools\.\d+)\.function/, "$1"),
  );
}

/** How an output ended. */
export type MessageEnd = Pick<EndEvent, "finish_reason" | "stop_sequence" | "usage">;

/** The message of a job that has succeeded. */
export function toMessage(job: AnsweredJob, text: string, end: MessageEnd): MessageObject {
  return {
    ...messageStart(job),
    content: contentOf(job, text),
    ...messageStop(job, end),
    usage: messageUsage(end.usage),
  };
}

/** A block with the text of an output, if it has one, and one for each of its calls. */
function contentOf({ id, generation }: AnsweredJob, output: string): MessageObject["content"] {
  const { text, calls } = parseOutput(generation.tools, output);
  return [
    ...(text === "" ? [] : [{ type: "text" as const, text, citations: null }]),
    ...calls.map((call, i) => ({ ...toolUse(id, i, call.name), input: argumentsOf(call) })),
  ];
}

/** The block of a call before its arguments. */
export function toolUse(jobId: string, index: number, name: string): ToolUseBlock {
  return { type: "tool_use", id: callId(jobId, index), name, input: {} };
}

/** The arguments are incomplete JSON if the output ended within them. */
function argumentsOf({ arguments: json }: FunctionCall): ToolUseBlock["input"] {
  try {
    return JSON.parse(json) as ToolUseBlock["input"];
  } catch {
    return {};
  }
}

/** The message before its output. */
export function messageStart({ id, generation }: AnsweredJob): MessageObject {
  return {
    id: messageId(id),
    type: "message",
    role: "assistant",
    model: generation.model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: messageUsage(null),
  };
}

export function messageStop({ generation }: AnsweredJob, end: MessageEnd) {
  return {
    stop_reason: stopReason(end, generation.maxTokens),
    stop_sequence: end.stop_sequence ?? null,
  };
}

function stopReason(
  { finish_reason, stop_sequence, usage }: MessageEnd,
  maxTokens: number,
): StopReason | null {
  if (finish_reason === null) return null;
  if (stop_sequence !== undefined) return "stop_sequence";
  if (finish_reason === "tool_calls") return "tool_use";
  if (finish_reason !== "length") return "end_turn";
  return usage.completion_tokens < maxTokens ? "model_context_window_exceeded" : "max_tokens";
}

/** @param usage null before the message has ended */
export function messageUsage(usage: Usage | null): MessageUsage {
  const cached = usage?.prompt_tokens_details.cached_tokens ?? 0;
  return {
    input_tokens: (usage?.prompt_tokens ?? 0) - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: usage?.completion_tokens ?? 0,
    service_tier: "standard",
  };
}
