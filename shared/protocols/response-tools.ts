/** Functions and calls as the Responses API shows and takes them: as items beside messages. */
import type { FunctionCallItem, ResponseItemStatus } from "../api/response-items.ts";
import type {
  ChatTool,
  ChatToolChoice,
  ResponseTool,
  ResponseToolChoice,
  ShownResponseTool,
} from "../api/tools.ts";
import type { ChatMessage, Generation } from "../jobs/record.ts";
import { callId, type FunctionCall, type ToolSettings } from "../tools/tools.ts";

/** The id of the item of a job's call. */
export const callItemId = (jobId: string, index: number) =>
  `fc_${jobId.replace(/^job_/, "")}_${index}`;

/** The job and the number of the call that an item's id names; null for another id. */
export function callOfItemId(
  id: string,
): { readonly jobId: string; readonly index: number } | null {
  const match = /^fc_(.+)_(\d{1,4})$/.exec(id);
  return match && { jobId: `job_${match[1]!}`, index: Number(match[2]) };
}

export function callItem(
  jobId: string,
  index: number,
  { name, arguments: args }: FunctionCall,
  status: ResponseItemStatus,
): FunctionCallItem {
  return {
    id: callItemId(jobId, index),
    type: "function_call",
    status,
    call_id: callId(jobId, index),
    name,
    arguments: args,
  };
}

/** Tools as chats write them. */
export function toChatTools(tools: readonly ResponseTool[]): ChatTool[] {
  return tools.map(({ type, ...fields }) => ({ type, function: fields }));
}

export function toChatToolChoice(choice: ResponseToolChoice): ChatToolChoice {
  if (typeof choice === "string") return choice;
  if (choice.type === "function") return namedChoice(choice);
  const tools = choice.tools.map(namedChoice);
  return { type: choice.type, allowed_tools: { mode: choice.mode, tools } };
}

const namedChoice = ({ type, name }: { readonly type: "function"; readonly name: string }) => ({
  type,
  function: { name },
});

/** The fields of a response about tools. */
export function echoedTools({ tools }: Pick<Generation, "tools">) {
  return {
    tools: (tools?.functions ?? []).map((tool): ShownResponseTool => {
      const { name, description = null, parameters = null, strict = false } = tool;
      return { type: "function", name, description, parameters, strict };
    }),
    tool_choice: tools ? echoedChoice(tools) : "auto",
    parallel_tool_calls: tools?.parallel ?? true,
  } as const;
}

function echoedChoice({ choice, allowed }: ToolSettings): ResponseToolChoice {
  if (choice === "none" || allowed === undefined) return choice;
  const [first, ...others] = allowed.map((name) => ({ type: "function", name }) as const);
  if (choice === "required" && first && others.length === 0) return first;
  return { type: "allowed_tools", mode: choice, tools: first ? [first, ...others] : [] };
}

/** The answer of the assistant with its calls, as one message; null if there is nothing in it. */
export function answerMessage(
  jobId: string,
  { text, calls }: { readonly text: string; readonly calls: readonly FunctionCall[] },
): ChatMessage | null {
  if (text === "" && calls.length === 0) return null;
  const toolCalls = calls.map((call, i) => ({ id: callId(jobId, i), ...call }));
  return { role: "assistant", content: text, ...(toolCalls.length > 0 && { toolCalls }) };
}

/** Adds the calls that follow a message of the assistant to it: items have them apart, conversations have one message. */
export function joinCalls(messages: readonly ChatMessage[]): ChatMessage[] {
  const joined: ChatMessage[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    const isCalls = message.toolCalls !== undefined && message.content === "";
    if (isCalls && last?.role === "assistant") {
      const toolCalls = [...(last.toolCalls ?? []), ...message.toolCalls];
      joined[joined.length - 1] = { ...last, toolCalls };
    } else joined.push(message);
  }
  return joined;
}
