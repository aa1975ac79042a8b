/** Finds out how a chat template renders tools, and checks that the parser of a format reads the calls that it renders. */
import type { ChatMessage } from "../../../shared/jobs/record.ts";
import { TOOL_FORMATS, type ToolFormatName } from "../../../shared/tools/formats.ts";
import { parseOutput } from "../../../shared/tools/parser.ts";
import type { FunctionTool, ToolCall } from "../../../shared/tools/tools.ts";
import type { ChatTemplate, TemplateSpelling } from "./chat-template.ts";

/** How a template renders tools in a format, or why it does not. */
export type TemplateTools =
  | { readonly spelling: TemplateSpelling }
  | {
      readonly spelling: null;
      /** Whether the template shows tools at all. */
      readonly showsTools: boolean;
      readonly reason: string;
    };

const TOOL: FunctionTool = {
  name: "sample_function",
  description: "An example.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "A city." } },
    required: ["city"],
  },
};
const QUESTION: ChatMessage = { role: "user", content: "a sample question" };
const callOf = (city: string, id: string): ToolCall => {
  return { id, name: TOOL.name, arguments: JSON.stringify({ city }) };
};
const CALLS = [callOf("Oslo", "call_sample_0"), callOf("Rome", "call_sample_1")] as const;
const answer = (toolCalls: readonly ToolCall[]): ChatMessage => {
  return { role: "assistant", content: "", toolCalls };
};
const RESULTS = CALLS.map(({ id }, i): ChatMessage => {
  return { role: "tool", content: `sample result ${i + 17}`, toolCallId: id };
});

/**
 * All spellings, the usual ones first. Arguments are best shown as the text that the model has written: as an object, long
 * numbers and the order of keys that are numbers change.
 */
const SPELLINGS: readonly TemplateSpelling[] = [false, true].flatMap((oneCall) =>
  [false, true].flatMap((shortIds) =>
    [true, false].flatMap((textArguments) =>
      ([null, ""] as const).map((emptyContent) => {
        return { emptyContent, textArguments, shortIds, oneCall };
      }),
    ),
  ),
);

/** Tries all spellings. The reason of the first one is given if none fits. */
export function templateTools(
  template: Pick<ChatTemplate, "renderTools">,
  format: ToolFormatName,
): TemplateTools {
  const shows = showsTools(template);
  if (!shows) return { spelling: null, showsTools: false, reason: "it does not show tools" };
  let reason: string | null = null;
  for (const spelling of SPELLINGS) {
    const problem = problemOf(template, format, spelling);
    if (problem === null) return { spelling };
    reason ??= problem;
  }
  return { spelling: null, showsTools: true, reason: reason! };
}

function showsTools(template: Pick<ChatTemplate, "renderTools">): boolean {
  try {
    return template.renderTools(SPELLINGS[0]!, [QUESTION], [TOOL]).includes(TOOL.name);
  } catch {
    return false;
  }
}

/** Why a template with this spelling does not fit the format; null if it does. */
function problemOf(
  template: Pick<ChatTemplate, "renderTools">,
  format: ToolFormatName,
  spelling: TemplateSpelling,
): string | null {
  const render = (messages: readonly ChatMessage[], open = true) =>
    template.renderTools(spelling, [QUESTION, ...messages], [TOOL], { open });
  try {
    const written = afterQuestion(render([answer(CALLS.slice(0, 1))], false));
    const output = TOOL_FORMATS[format].afterText
      ? written
      : withoutCommonStart(written, afterQuestion(render([])));
    const settings = { format, functions: [TOOL], choice: "auto", parallel: true } as const;
    const [call] = parseOutput(settings, output).calls;
    if (call?.name !== TOOL.name || !isSame(call.arguments, CALLS[0].arguments)) {
      return `its calls are not in the format ${format}: ${JSON.stringify(output.slice(0, 200))}`;
    }
    const conversation = render([answer(CALLS), ...RESULTS]);
    const shown = ["Oslo", "Rome", ...RESULTS.map(({ content }) => content)];
    if (shown.every((text) => conversation.includes(text))) return null;
    return "it does not show all calls and results";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function isSame(one: string, other: string): boolean {
  try {
    return JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
  } catch {
    return false;
  }
}

/** A template may put the tools before the last question, so only what follows it is the same in both texts. */
const afterQuestion = (text: string) => text.slice(text.lastIndexOf(QUESTION.content));

/** The rest of a text after the beginning that it has in common with another. */
function withoutCommonStart(text: string, other: string): string {
  let at = 0;
  while (at < text.length && text[at] === other[at]) at++;
  return text.slice(at);
}
