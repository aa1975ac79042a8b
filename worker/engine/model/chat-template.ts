/** The chat template of a model: renders conversations, also with tools. Only this file knows how templates spell them. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatMessage } from "../../../shared/jobs/record.ts";
import {
  DEFAULT_TOOL_FORMAT,
  TOOL_FORMATS,
  type ToolFormatName,
} from "../../../shared/tools/formats.ts";
import type { FunctionTool } from "../../../shared/tools/tools.ts";
import { withoutTools } from "./default-tool-prompt.ts";
import { ExactArguments } from "./exact-arguments.ts";
import { JinjaTemplate } from "./jinja.ts";

/** `chat_template` in tokenizer_config.json. */
export type ConfigTemplate =
  | string
  | readonly { readonly name: string; readonly template: string }[]
  | null
  | undefined;

/** The sources of a model's templates. */
export interface ChatTemplateSource {
  readonly main: string;
  /** For conversations with tools, if it is another one. */
  readonly tools?: string | undefined;
}

/** The templates of a model folder; null if it has none. */
export function folderChatTemplate(
  folder: string,
  config: ConfigTemplate,
): ChatTemplateSource | null {
  const file = join(folder, "chat_template.jinja");
  if (existsSync(file)) return { main: readFileSync(file, "utf8") };
  if (typeof config === "string") return { main: config };
  if (!config) return null;
  const named = (wanted: string) => config.find(({ name }) => name === wanted)?.template;
  const main = named("default") ?? config[0]?.template;
  return main === undefined ? null : { main, tools: named("tool_use") };
}

/** How a template wants calls. Templates differ in this, and only trying shows it. */
export interface TemplateSpelling {
  /** The content of a message that has only calls. */
  readonly emptyContent: "" | null;
  /** Whether the arguments are a text instead of an object. */
  readonly textArguments: boolean;
  /** Whether the ids of calls must be nine letters and digits. */
  readonly shortIds: boolean;
  /** Whether a message may have only one call. */
  readonly oneCall: boolean;
}

/** Variables of a template besides the conversation, such as `enable_thinking`. */
export type TemplateKwargs = Readonly<Record<string, unknown>>;

/** How a conversation is rendered. */
export interface RenderOptions {
  /** Variables of the request; they replace those of the manifest. */
  readonly kwargs?: TemplateKwargs | undefined;
  /** The time that the template sees; by default now. */
  readonly nowMs?: number | undefined;
  /** Whether the assistant's answer follows. */
  readonly open?: boolean;
}

export class ChatTemplate {
  readonly #main: JinjaTemplate;
  readonly #tools: JinjaTemplate;
  /** Special tokens, and the manifest's variables. */
  readonly #constants: TemplateKwargs;
  #format: ToolFormatName = DEFAULT_TOOL_FORMAT;
  /** How the template itself renders tools in the format; null if it does not. */
  #spelling: TemplateSpelling | null = null;

  constructor({ main, tools }: ChatTemplateSource, constants: TemplateKwargs) {
    this.#main = new JinjaTemplate(main);
    this.#tools = tools === undefined ? this.#main : new JinjaTemplate(tools);
    this.#constants = constants;
  }

  /** Whether a conversation is rendered otherwise at another time. */
  get readsClock(): boolean {
    return this.#main.readsClock || this.#tools.readsClock;
  }

  /** The prompt of a conversation. @throws Error if the template refuses the messages */
  render(
    messages: readonly ChatMessage[],
    tools: readonly FunctionTool[] = [],
    options: RenderOptions = {},
  ): string {
    if (this.#spelling) return this.#renderOwn(this.#spelling, messages, { tools, options });
    const keepsSystem = this.#keeps({ role: "system", content: SAMPLE_TEXT }, SAMPLE_MESSAGE);
    const format = TOOL_FORMATS[this.#format];
    const plain = withoutTools(messages, tools, { format, keepsSystem });
    return this.renderTools(PLAIN, plain, [], options);
  }

  #renderOwn(
    spelling: TemplateSpelling,
    messages: readonly ChatMessage[],
    { tools, options }: { tools: readonly FunctionTool[]; options: RenderOptions },
  ): string {
    try {
      return this.renderTools(spelling, messages, tools, options);
    } catch (error) {
      if (tools.length === 0) throw error;
      // Some templates need a description of each parameter.
      return this.renderTools(spelling, messages, tools.map(withDescriptions), options);
    }
  }

  /** Renders tools and calls with the template itself. */
  renderTools(
    spelling: TemplateSpelling,
    messages: readonly ChatMessage[],
    tools: readonly FunctionTool[],
    { open = true, kwargs, nowMs = Date.now() }: RenderOptions = {},
  ): string {
    const hasTools = tools.length > 0 || messages.some(({ role }) => role === "tool");
    const template = hasTools ? this.#tools : this.#main;
    const exact = new ExactArguments();
    const items = {
      ...this.#constants,
      ...kwargs,
      messages: toTemplateMessages(spelling, messages, exact),
      // As in transformers, they are defined also if there are none.
      tools: tools.length > 0 ? tools.map(toTemplateTool) : null,
      documents: null,
      add_generation_prompt: open,
    };
    return exact.restore(template.render(items, nowMs));
  }

  /** Whether the rendered conversation contains the content of each of these messages. */
  #keeps(...messages: readonly ChatMessage[]): boolean {
    try {
      const rendered = this.renderTools(PLAIN, messages, []);
      return messages.every(({ content }) => rendered.includes(content));
    } catch {
      return false;
    }
  }

  /**
   * Sets the format of calls.
   * @param spelling with which the template itself renders tools; null if it does not
   */
  useToolFormat(format: ToolFormatName, spelling: TemplateSpelling | null): void {
    this.#format = format;
    this.#spelling = spelling;
  }
}

const PLAIN: TemplateSpelling = {
  emptyContent: "",
  textArguments: false,
  shortIds: false,
  oneCall: false,
};
const SAMPLE_TEXT = "sample of a system message";
const SAMPLE_MESSAGE: ChatMessage = { role: "user", content: "sample of a user message" };

function withDescriptions(tool: FunctionTool): FunctionTool {
  const { properties } = tool.parameters ?? {};
  if (typeof properties !== "object" || properties === null) return tool;
  const described = Object.entries(properties).map(([name, schema]) => {
    const isObject = typeof schema === "object" && schema !== null;
    return [name, isObject ? { description: "", ...schema } : schema] as const;
  });
  return { ...tool, parameters: { ...tool.parameters, properties: Object.fromEntries(described) } };
}

function toTemplateTool({ name, description = "", parameters }: FunctionTool) {
  const schema = parameters ?? { type: "object", properties: {} };
  return { type: "function", function: { name, description, parameters: schema } };
}

function toTemplateMessages(
  { emptyContent, textArguments, shortIds, oneCall }: TemplateSpelling,
  messages: readonly ChatMessage[],
  exact: ExactArguments,
) {
  const names = new Map(
    messages.flatMap(({ toolCalls = [] }) => toolCalls.map(({ id, name }) => [id, name] as const)),
  );
  const idOf = (id: string) => (shortIds ? shortId(id) : id);
  const spelled = oneCall ? messages.flatMap(oneCallEach) : messages;
  return spelled.map(({ role, content, toolCalls, toolCallId }) => {
    const name = toolCallId === undefined ? undefined : names.get(toolCallId);
    const calls = toolCalls?.map((call) => {
      const args = textArguments ? call.arguments : exact.parse(call.arguments);
      return {
        id: idOf(call.id),
        type: "function",
        function: { name: call.name, arguments: args },
      };
    });
    return {
      // Templates use the older name of the role.
      role: role === "developer" ? "system" : role,
      content: calls && content === "" ? emptyContent : content,
      ...(calls && { tool_calls: calls }),
      ...(toolCallId !== undefined && { tool_call_id: idOf(toolCallId) }),
      ...(name !== undefined && { name }),
    };
  });
}

/** A message with several calls as several messages. */
function oneCallEach(message: ChatMessage): ChatMessage[] {
  const { toolCalls = [] } = message;
  if (toolCalls.length < 2) return [message];
  return toolCalls.map((call, i) => {
    return { ...message, content: i === 0 ? message.content : "", toolCalls: [call] };
  });
}

const shortId = (id: string) => createHash("sha256").update(id).digest("hex").slice(0, 9);
