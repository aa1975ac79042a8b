/**
 * Finds out how a chat template renders tools, and checks that the calls which it renders are what the grammar of a format allows and
 * what its parser reads: else a model would be held to calls that it was not trained to write.
 */
import { compileGrammar } from "../../../shared/grammar/automaton/compile.ts";
import type { ChatMessage } from "../../../shared/jobs/record.ts";
import { TOOL_FORMATS, type ToolFormatName } from "../../../shared/tools/formats.ts";
import { compileOutputRules } from "../../../shared/tools/grammar.ts";
import { parseOutput } from "../../../shared/tools/parser.ts";
import type { FunctionTool, ToolCall, ToolSettings } from "../../../shared/tools/tools.ts";
import { Matcher, type GrammarPosition } from "../grammar/matcher.ts";
import { TokenTrie } from "../grammar/token-trie.ts";
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
    properties: {
      city: { type: "string", description: "A city." },
      id: { type: "integer", description: "A number." },
      part: { type: "number", description: "Another number." },
    },
    required: ["city", "id", "part"],
  },
};
const QUESTION: ChatMessage = { role: "user", content: "a sample question" };
const callOf = (city: string, id: string): ToolCall => {
  // JavaScript has no number for the first of these, and writes the second one otherwise.
  const numbers = `"id": 9007199254740993, "part": 1.0`;
  return { id, name: TOOL.name, arguments: `{"city": "${city}", ${numbers}}` };
};
const CALLS = [callOf("Oslo", "call_sample_0"), callOf("Rome", "call_sample_1")] as const;
const answer = (toolCalls: readonly ToolCall[]): ChatMessage => {
  return { role: "assistant", content: "", toolCalls };
};
/** The calls can be read, but a model could not write them so. */
const FORBIDDEN = "its calls differ from those that";
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

/** Tries all spellings. If none fits, the reason is that of the one that fits best. */
export function templateTools(
  template: Pick<ChatTemplate, "renderTools">,
  format: ToolFormatName,
): TemplateTools {
  const shows = showsTools(template);
  if (!shows) return { spelling: null, showsTools: false, reason: "it does not show tools" };
  const problems: string[] = [];
  for (const spelling of SPELLINGS) {
    const problem = problemOf(template, format, spelling);
    if (problem === null) return { spelling };
    problems.push(problem);
  }
  const reason = problems.find((problem) => problem.startsWith(FORBIDDEN)) ?? problems[0]!;
  return { spelling: null, showsTools: true, reason };
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
    for (const calls of spelling.oneCall ? [CALLS.slice(0, 1)] : [CALLS.slice(0, 1), CALLS]) {
      const written = afterQuestion(render([answer(calls)], false));
      const output = TOOL_FORMATS[format].afterText
        ? written
        : withoutCommonStart(written, afterQuestion(render([])));
      const problem = outputProblem(format, output, calls);
      if (problem) return `${problem}: ${JSON.stringify(output.slice(0, 200))}`;
    }
    const conversation = render([answer(CALLS), ...RESULTS]);
    const shown = ["Oslo", "Rome", ...RESULTS.map(({ content }) => content)];
    if (shown.every((text) => conversation.includes(text))) return null;
    return "it does not show all calls and results";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Why an output is not these calls in a format; null if it is. The end of the message may follow them. */
function outputProblem(
  format: ToolFormatName,
  output: string,
  calls: readonly ToolCall[],
): string | null {
  const settings: ToolSettings = { format, functions: [TOOL], choice: "auto", parallel: true };
  if (!hasCalls(settings, output, calls)) return `its calls are not in the format ${format}`;
  const start = output.indexOf(TOOL_FORMATS[format].trigger);
  const allowed = allowedBeginning({ ...settings, choice: "required" }, output.slice(start));
  if (hasCalls(settings, allowed, calls)) return null;
  return `${FORBIDDEN} the format ${format} allows`;
}

function hasCalls(settings: ToolSettings, output: string, calls: readonly ToolCall[]): boolean {
  const found = parseOutput(settings, output).calls;
  return (
    found.length === calls.length &&
    found.every(({ name, arguments: args }, i) => {
      return name === TOOL.name && withoutSpaces(args) === withoutSpaces(calls[i]!.arguments);
    })
  );
}

/** JSON without the spaces outside its strings. */
const withoutSpaces = (json: string) => json.replaceAll(/("(?:[^"\\]|\\.)*")|\s+/g, "$1");

/** The longest beginning of a text that is a whole output of the grammar. */
function allowedBeginning(settings: ToolSettings, text: string): string {
  const grammar = compileGrammar(compileOutputRules({ tools: settings })!);
  const bytes = new TextEncoder().encode(text);
  let position: GrammarPosition | null = new Matcher(grammar, new TokenTrie([])).start;
  let end = 0;
  for (let at = 0; position && at < bytes.length; at++) {
    position = position.advance(bytes[at]!);
    if (position?.canEnd) end = at + 1;
  }
  return new TextDecoder().decode(bytes.subarray(0, end));
}

/** A template may put the tools before the last question, so only what follows it is the same in both texts. */
const afterQuestion = (text: string) => text.slice(text.lastIndexOf(QUESTION.content));

/** The rest of a text after the beginning that it has in common with another. */
function withoutCommonStart(text: string, other: string): string {
  let at = 0;
  while (at < text.length && text[at] === other[at]) at++;
  return text.slice(at);
}
