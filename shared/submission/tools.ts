/** From the tools of a request to those of a generation. */
import { AppError } from "../api/errors.ts";
import type { ResponseFormat } from "../api/response-formats.ts";
import type { ChatToolChoice, ChatToolFields } from "../api/tools.ts";
import type { Input } from "../jobs/record.ts";
import { toolFormat } from "../tools/formats.ts";
import type { FunctionTool, ToolSettings } from "../tools/tools.ts";
import type { ModelCard } from "../workers/model-card.ts";

/**
 * The tools that a request offers to the model; null for none.
 * @throws AppError invalid_request, unsupported_parameter
 */
export function toolSettings(
  {
    tools,
    tool_choice,
    parallel_tool_calls,
    response_format,
  }: ChatToolFields & { readonly response_format?: ResponseFormat | null | undefined },
  inputs: readonly Input[],
  { toolFormat: format }: Pick<ModelCard, "toolFormat">,
): ToolSettings | null {
  const { choice, allowed } = toChoice(tool_choice ?? "auto");
  if (!tools?.length) {
    if (choice !== "required" && allowed === undefined) return null;
    throw invalid("tool_choice", "needs tools");
  }
  if (inputs.some(({ kind }) => kind !== "chat")) throw invalid("tools", "need messages");
  if (format === undefined || toolFormat(format) === null) {
    const message = "tools: no worker of this model supports tools of this server";
    throw new AppError("unsupported_parameter", message, { param: "tools" });
  }
  const functions = tools.map((tool, i) => toFunction(tool.function, i));
  const unknown = allowed?.find((name) => !functions.some((tool) => tool.name === name));
  if (unknown !== undefined) throw invalid("tool_choice", "names a function that is not in tools");
  return {
    format,
    functions,
    choice,
    ...(allowed && { allowed }),
    parallel: parallel_tool_calls ?? true,
    ...(response_format && response_format.type !== "text" && { callsOnly: true }),
  };
}

function toFunction(
  {
    name,
    description,
    parameters,
    strict,
  }: NonNullable<ChatToolFields["tools"]>[number]["function"],
  index: number,
): FunctionTool {
  const type = parameters?.["type"];
  if (type !== undefined && type !== "object") {
    const param = `tools.${index}.function.parameters.type`;
    throw invalid(param, "must be object: arguments are named");
  }
  return {
    name,
    ...(description != null && { description }),
    ...(parameters != null && { parameters }),
    ...(strict && { strict }),
  };
}

function toChoice(choice: ChatToolChoice): Pick<ToolSettings, "choice" | "allowed"> {
  if (typeof choice === "string") return { choice };
  if (choice.type === "function") return { choice: "required", allowed: [choice.function.name] };
  const { mode, tools } = choice.allowed_tools;
  return { choice: mode, allowed: tools.map((tool) => tool.function.name) };
}

function invalid(param: string, problem: string): AppError {
  return new AppError("invalid_request", `${param} ${problem}`, { param });
}
