/** The calls of a job's output as chats and jobs show them. */
import type { ChatToolCall, ChatToolCallDelta } from "../api/tools.ts";
import type { Generation } from "../jobs/record.ts";
import { parseOutput, type OutputPart } from "../tools/parser.ts";
import { callId } from "../tools/tools.ts";

export interface OutputWithCalls {
  /** The text without the calls. */
  readonly text: string;
  readonly calls: readonly ChatToolCall[];
}

/** Separates the calls of an output from its text. */
export function outputWithCalls(
  jobId: string,
  { tools }: Pick<Generation, "tools">,
  output: string,
): OutputWithCalls {
  const { text, calls } = parseOutput(tools, output);
  const shown = calls.map((call, index): ChatToolCall => {
    return { id: callId(jobId, index), type: "function", function: call };
  });
  return { text, calls: shown };
}

/** The `delta` of a chunk with these parts of the output. It has no `content` if they have no text. */
export function outputDelta(
  jobId: string,
  parts: readonly OutputPart[],
): { readonly content?: string; readonly tool_calls?: readonly ChatToolCallDelta[] } {
  const texts: string[] = [];
  const calls = new Map<number, { id?: string; name?: string; arguments: string }>();
  for (const part of parts) {
    if (part.type === "text") texts.push(part.text);
    else if (part.type === "call") {
      calls.set(part.index, { id: callId(jobId, part.index), name: part.name, arguments: "" });
    } else {
      const call = calls.get(part.index) ?? { arguments: "" };
      calls.set(part.index, { ...call, arguments: call.arguments + part.text });
    }
  }
  const tool_calls = Array.from(calls, ([index, { id, ...called }]): ChatToolCallDelta => {
    return { index, ...(id !== undefined && { id, type: "function" }), function: called };
  });
  return {
    ...(texts.length > 0 && { content: texts.join("") }),
    ...(tool_calls.length > 0 && { tool_calls }),
  };
}
