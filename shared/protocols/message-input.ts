/** The conversation of a message request, and its functions, as jobs have them. */
import { contentText } from "../api/input.ts";
import type { InputBlock, MessageRequest } from "../api/messages.ts";
import type { MessageToolChoice } from "../api/message-tools.ts";
import type { ChatToolChoice } from "../api/tools.ts";
import type { ChatMessage } from "../jobs/record.ts";

type InputMessage = MessageRequest["messages"][number];

/** The conversation of a request: its system message, then its messages. */
export function conversationOf({ system, messages }: Pick<MessageRequest, "system" | "messages">) {
  const first: ChatMessage[] =
    system == null ? [] : [{ role: "system", content: contentText(system) }];
  return { kind: "chat" as const, messages: [...first, ...messages.flatMap(toChatMessages)] };
}

/** Results of calls are messages of their own, before the rest of theirs. Thinking is left out. */
function toChatMessages({ role, content }: InputMessage): ChatMessage[] {
  if (typeof content === "string") return [{ role, content }];
  const ofType = <Type extends InputBlock["type"]>(type: Type) =>
    content.filter((block): block is Extract<InputBlock, { type: Type }> => block.type === type);
  const results = ofType("tool_result").map((block): ChatMessage => {
    return {
      role: "tool",
      content: contentText(block.content ?? ""),
      toolCallId: block.tool_use_id,
    };
  });
  const toolCalls = ofType("tool_use").map(({ id, name, input }) => {
    return { id, name, arguments: JSON.stringify(input) };
  });
  const text = contentText(ofType("text"));
  if (text === "" && toolCalls.length === 0 && results.length > 0) return results;
  return [...results, { role, content: text, ...(toolCalls.length > 0 && { toolCalls }) }];
}

/** The fields of a job about tools. */
export function toolFields({ tools, tool_choice: choice }: MessageRequest) {
  return {
    ...(tools && {
      tools: tools.map(({ name, description, input_schema: parameters, strict }) => {
        return { type: "function" as const, function: { name, description, parameters, strict } };
      }),
    }),
    // Without tools it is refused if it asks for a call.
    ...(choice && { tool_choice: toChatToolChoice(choice) }),
    ...(choice?.type !== "none" &&
      choice?.disable_parallel_tool_use && { parallel_tool_calls: false }),
  };
}

function toChatToolChoice(choice: MessageToolChoice): ChatToolChoice {
  if (choice.type === "any") return "required";
  if (choice.type !== "tool") return choice.type;
  return { type: "function", function: { name: choice.name } };
}
