/** The formats in which models write calls of functions. The grammar and the parser are both made from these tables. */

/**
 * A call as JSON, `{"name": …, "arguments": {…}}`; or the name as it is, then perhaps a marker and an id, then a text, then the
 * arguments.
 */
export type CallStyle =
  | {
      readonly kind: "object";
      readonly argumentsKey: "arguments" | "parameters";
      /** The key of an id that may follow the arguments; absent for none. */
      readonly idKey?: "id";
    }
  | { readonly kind: "named"; readonly id?: "[CALL_ID]"; readonly between: string };

/**
 * An output with calls: perhaps a text, then `open`, a call, any number of times `separator` and a call, then `close`. A call
 * is between `before` and `after`. A space in these texts may be missing.
 */
export interface ToolFormat {
  /**
   * The text that begins the calls. Once it is complete, the output is held to a call. It is the beginning of `open`,
   * `before` and the call together.
   */
  readonly trigger: string;
  /** Whether a text may come before the trigger. If not, only a trigger at the beginning counts. */
  readonly afterText: boolean;
  readonly open: string;
  readonly before: string;
  readonly style: CallStyle;
  readonly after: string;
  readonly separator: string;
  readonly close: string;
}

const object = (argumentsKey: "arguments" | "parameters"): CallStyle & { kind: "object" } => ({
  kind: "object",
  argumentsKey,
});

/** The beginning of a call as JSON. */
export const CALL_OBJECT_START = '{"name":';

const bare = {
  trigger: CALL_OBJECT_START,
  afterText: false,
  open: "",
  before: "",
  after: "",
  close: "",
};

export const TOOL_FORMATS = {
  /** Hermes, Qwen 2.5, Qwen 3. It is the format for models whose template has none. */
  hermes: {
    trigger: "<tool_call>",
    afterText: true,
    open: "",
    before: "<tool_call>\n",
    style: object("arguments"),
    after: "\n</tool_call>",
    separator: "\n",
    close: "",
  },
  /** Llama 3.1, 3.2 and 3.3 with JSON. */
  llama3: { ...bare, style: object("parameters"), separator: "; " },
  /** Mistral 7B v0.3, Nemo, Small 2409, Large 2407. */
  mistral: {
    trigger: "[TOOL_CALLS]",
    afterText: true,
    open: "[TOOL_CALLS] [",
    before: "",
    style: { ...object("arguments"), idKey: "id" },
    after: "",
    separator: ", ",
    close: "]",
  },
  /** Mistral Small 3.2, Devstral, Magistral. */
  "mistral-args": {
    trigger: "[TOOL_CALLS]",
    afterText: true,
    open: "",
    before: "[TOOL_CALLS]",
    style: { kind: "named", id: "[CALL_ID]", between: "[ARGS]" },
    after: "",
    separator: "",
    close: "",
  },
  /** DeepSeek V3 and R1. */
  deepseek: {
    trigger: "<｜tool▁calls▁begin｜>",
    afterText: true,
    open: "<｜tool▁calls▁begin｜>",
    before: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    style: { kind: "named", between: "\n```json\n" },
    after: "\n```<｜tool▁call▁end｜>",
    separator: "\n",
    close: "<｜tool▁calls▁end｜>",
  },
  /** DeepSeek V3.1. */
  "deepseek-v3.1": {
    trigger: "<｜tool▁calls▁begin｜>",
    afterText: true,
    open: "<｜tool▁calls▁begin｜>",
    before: "<｜tool▁call▁begin｜>",
    style: { kind: "named", between: "<｜tool▁sep｜>" },
    after: "<｜tool▁call▁end｜>",
    separator: "",
    close: "<｜tool▁calls▁end｜>",
  },
  /** Each call as JSON on a line. */
  json: { ...bare, style: object("arguments"), separator: "\n" },
} as const satisfies Readonly<Record<string, ToolFormat>>;

export type ToolFormatName = keyof typeof TOOL_FORMATS;
export const TOOL_FORMAT_NAMES = Object.keys(TOOL_FORMATS) as ToolFormatName[];
export const DEFAULT_TOOL_FORMAT: ToolFormatName = "hermes";

/** The markers of all formats: `<tool_call>`, `[TOOL_CALLS]`, … Some tokenizers have tokens for them. */
export const CALL_MARKERS: ReadonlySet<string> = new Set(
  Object.values<ToolFormat>(TOOL_FORMATS).flatMap(({ open, before, style, after, close }) => {
    const between = style.kind === "named" ? style.between : "";
    return (open + before + between + after + close).match(/<[^>]*>|\[[A-Z_]+\]/g) ?? [];
  }),
);

/** @returns null for a format of a newer release */
export function toolFormat(name: string): ToolFormat | null {
  return Object.hasOwn(TOOL_FORMATS, name) ? TOOL_FORMATS[name as ToolFormatName] : null;
}

/** Calls as a model of this format writes them. */
export function writeCalls(
  { open, before, style, after, separator, close }: ToolFormat,
  calls: readonly { readonly name: string; readonly arguments: string }[],
): string {
  const texts = calls.map(({ name, arguments: args }) => {
    const call =
      style.kind === "named"
        ? name + style.between + args
        : `{"name": ${JSON.stringify(name)}, "${style.argumentsKey}": ${args}}`;
    return before + call + after;
  });
  return open + texts.join(separator) + close;
}
