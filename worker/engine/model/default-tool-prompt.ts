/** Tools for a model whose chat template has none: they are described in the system message, and calls and results are text. */
import type { ChatMessage } from "../../../shared/jobs/record.ts";
import { writeCalls, type ToolFormat } from "../../../shared/tools/formats.ts";
import type { FunctionTool } from "../../../shared/tools/tools.ts";

export interface DefaultToolPrompt {
  /** How the model is to write calls. */
  readonly format: ToolFormat;
  /** Whether the template keeps system messages; if not, the tools are described in the first message of the user. */
  readonly keepsSystem: boolean;
}

/** The conversation with tools, calls and results as text. */
export function withoutTools(
  messages: readonly ChatMessage[],
  tools: readonly FunctionTool[],
  { format, keepsSystem }: DefaultToolPrompt,
): ChatMessage[] {
  const plain = messages
    .map((message) => toPlainMessage(message, format))
    .reduce(joinAfterResults, []);
  if (tools.length === 0) return plain;
  const description = describeTools(tools, format);
  const roles = keepsSystem ? ["system", "developer"] : ["user"];
  const at = plain.findIndex(({ role }) => roles.includes(role));
  if (at === -1) {
    return [{ role: keepsSystem ? "system" : "user", content: description }, ...plain];
  }
  const { content } = plain[at]!;
  const texts = keepsSystem ? [content, description] : [description, content];
  return plain.with(at, { ...plain[at]!, content: texts.join("\n\n") });
}

function describeTools(tools: readonly FunctionTool[], format: ToolFormat): string {
  const lines = tools.map(({ name, description, parameters }) =>
    JSON.stringify({
      name,
      ...(description !== undefined && { description }),
      parameters: parameters ?? { type: "object", properties: {} },
    }),
  );
  const example = writeCalls(format, [{ name: "NAME", arguments: "{ARGUMENTS}" }]);
  return [
    "You can call functions. Each line describes one, with the JSON Schema of its arguments:",
    ...lines,
    "To call a function, answer in this form, with its name and its arguments as JSON:",
    example,
    "The next message has the result, between <tool_response> and </tool_response>.",
  ].join("\n");
}

interface PlainMessage extends ChatMessage {
  /** Whether it is the result of a function. */
  readonly isResult: boolean;
}

function toPlainMessage(
  { role, content, toolCalls }: ChatMessage,
  format: ToolFormat,
): PlainMessage {
  if (role === "tool") {
    const text = `<tool_response>\n${content}\n</tool_response>`;
    return { role: "user", content: text, isResult: true };
  }
  if (!toolCalls) return { role, content, isResult: false };
  // Clients send an empty text for no arguments.
  const calls = writeCalls(
    format,
    toolCalls.map((call) => ({ ...call, arguments: call.arguments || "{}" })),
  );
  return { role, content: content === "" ? calls : `${content}\n${calls}`, isResult: false };
}

/**
 * A user's message after a result, and further results, become one message with it: many templates want the roles to
 * alternate.
 */
function joinAfterResults(joined: PlainMessage[], message: PlainMessage): PlainMessage[] {
  const last = joined.at(-1);
  if (!last?.isResult || message.role !== "user") return [...joined, message];
  const content = `${last.content}\n${message.content}`;
  return [...joined.slice(0, -1), { ...last, content, isResult: message.isResult }];
}
