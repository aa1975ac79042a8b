/**
 * Finds the calls in a model's output, piece by piece. It is the only place where calls are read from text: every protocol and
 * every reader gets the same calls from the same text. Spaces and line breaks around the parts of a call do not matter.
 * Text that the grammar (grammar.ts) does not allow as a call is text here, also if it looks like one.
 */
import { CALL_OBJECT_START, toolFormat, type CallStyle, type ToolFormat } from "./formats.ts";
import { JsonScanner } from "./json-scanner.ts";
import { callable, type FunctionCall, type ToolSettings } from "./tools.ts";

/** A part of an output that a piece of text adds. */
export type OutputPart =
  | { readonly type: "text"; readonly text: string }
  /** A call begins. `index` counts the calls of the output from 0. */
  | { readonly type: "call"; readonly index: number; readonly name: string }
  | { readonly type: "arguments"; readonly index: number; readonly text: string };

/** An output: its text without the calls, and the calls. */
export interface ParsedOutput {
  readonly text: string;
  readonly calls: readonly FunctionCall[];
}

/** Parses a whole output. @param tools of the generation; absent: the output is text */
export function parseOutput(tools: ToolSettings | undefined, text: string): ParsedOutput {
  const parser = new OutputParser(tools);
  return joinParts([...parser.push(text), ...parser.end()]);
}

/** The output that consists of these parts. */
export function joinParts(parts: readonly OutputPart[]): ParsedOutput {
  const texts: string[] = [];
  const calls: { name: string; arguments: string }[] = [];
  for (const part of parts) {
    if (part.type === "text") texts.push(part.text);
    else if (part.type === "call") calls.push({ name: part.name, arguments: "" });
    else calls[part.index]!.arguments += part.text;
  }
  return { text: texts.join(""), calls };
}

/** The part that is read next. */
type State =
  /** A text, or a trigger. */
  | "text"
  /** The texts between the trigger and the call. */
  | "open"
  /** The beginning of a call, up to its arguments. */
  | "head"
  | "arguments"
  /** The members after the arguments, and the brace that ends the call. */
  | "rest"
  /** The texts after a call, and the next call or the end of all calls. */
  | "after"
  /** Text in which no trigger counts any more. */
  | "plain"
  /** Text after the last call. No output of this server has any. */
  | "ended";

export class OutputParser {
  readonly #format: ToolFormat | null;
  readonly #names: ReadonlySet<string>;
  /** Whether only a trigger that the output begins with counts. */
  readonly #callsOnly: boolean;
  #state: State = "text";
  /** The output that is not read yet. */
  #left = "";
  /** Spaces and line breaks that belong to the text only if more text follows. */
  #spaces = "";
  /** The beginning of the first call, and the spaces before it. It is text if no call follows. */
  #begun = "";
  #calls = 0;
  #scanner = new JsonScanner();
  #parts: OutputPart[] = [];

  /** @param tools of the generation; absent: the output is text */
  constructor(tools: ToolSettings | undefined) {
    const mayCall = tools !== undefined && tools.choice !== "none";
    this.#format = mayCall ? toolFormat(tools.format) : null;
    this.#names = new Set(mayCall ? callable(tools) : []);
    this.#callsOnly = tools?.callsOnly ?? false;
  }

  /** The parts that the next piece of the output completes. */
  push(text: string): OutputPart[] {
    this.#left += text;
    const format = this.#format;
    if (format === null) this.#readPlain();
    else while (this.#step(format));
    return this.#parts.splice(0);
  }

  /** The parts that were held back, at the end of the output. */
  end(): OutputPart[] {
    // An output that ended in the beginning of its first call has no call. After a marker the beginning is not text either.
    const isText = this.#calls === 0 && !this.#format?.afterText;
    if (isText || this.#state === "text" || this.#state === "plain") this.#readPlain();
    this.#left = "";
    return this.#parts.splice(0);
  }

  /** Reads one part. @returns false if more text is needed first */
  #step(format: ToolFormat): boolean {
    switch (this.#state) {
      case "text":
        return this.#readText(format);
      case "open":
        return this.#readOpen(format);
      case "head":
        return this.#readHead(format);
      case "arguments":
        return this.#readArguments(format);
      case "rest":
        return this.#readRest();
      case "after":
        return this.#readAfter(format);
      case "plain":
        return this.#readPlain();
      case "ended":
        this.#left = "";
        return false;
    }
  }

  #readText({ trigger, afterText }: ToolFormat): boolean {
    const at = this.#left.indexOf(trigger);
    const lead = this.#left.slice(0, Math.max(at, 0));
    const counts = this.#callsOnly ? lead === "" : afterText || withoutSpaces(lead) === "";
    if (at !== -1 && counts) {
      this.#take(at);
      // The spaces before a call belong to nothing.
      this.#begun = this.#spaces;
      this.#spaces = "";
      return this.#goTo("open");
    }
    if (this.#callsOnly || !afterText) {
      const start = this.#callsOnly ? this.#left : withoutSpaces(this.#left);
      if (!trigger.startsWith(start)) return this.#goTo("plain");
    }
    this.#take(this.#left.length - overlap(this.#left, trigger));
    return false;
  }

  /** Moves characters to the text, but holds back the spaces at their end. */
  #take(count: number): void {
    const text = this.#spaces + this.#left.slice(0, count);
    this.#left = this.#left.slice(count);
    const kept = text.replace(SPACES_AT_END, "");
    this.#spaces = text.slice(kept.length);
    if (kept !== "") this.#parts.push({ type: "text", text: kept });
  }

  #readPlain(): false {
    const text = this.#spaces + this.#begun + this.#left;
    this.#left = this.#spaces = this.#begun = "";
    if (text !== "") this.#parts.push({ type: "text", text });
    return false;
  }

  #readOpen({ open, before }: ToolFormat): boolean {
    const end = skip(this.#left, open + before);
    if (end === "short") return false;
    if (end === null) return this.#goTo("plain");
    this.#begun += this.#left.slice(0, end);
    this.#left = this.#left.slice(end);
    return this.#goTo("head");
  }

  #readHead({ style }: ToolFormat): boolean {
    const head =
      style.kind === "object" ? objectHead(this.#left, style) : namedHead(this.#left, style);
    if (head === "short") return false;
    if (head === null || !this.#names.has(head.name)) {
      return this.#goTo(this.#calls === 0 ? "plain" : "ended");
    }
    this.#begun = "";
    this.#left = this.#left.slice(head.length);
    this.#parts.push({ type: "call", index: this.#calls++, name: head.name });
    this.#scanner = new JsonScanner();
    return this.#goTo("arguments");
  }

  #readArguments({ style }: ToolFormat): boolean {
    const length = this.#scanner.push(this.#left);
    const text = this.#left.slice(0, length);
    this.#left = this.#left.slice(length);
    if (text !== "") this.#parts.push({ type: "arguments", index: this.#calls - 1, text });
    if (!this.#scanner.isComplete) return false;
    return this.#goTo(style.kind === "object" ? "rest" : "after");
  }

  #readRest(): boolean {
    const end = this.#left.indexOf("}");
    if (end === -1) return false;
    this.#left = this.#left.slice(end + 1);
    return this.#goTo("after");
  }

  #readAfter({ before, style, after, separator, close }: ToolFormat): boolean {
    const brace = style.kind === "object" ? "{" : "";
    const next = skip(this.#left, after + separator + before + brace);
    if (next === "short") return false;
    if (next !== null) {
      this.#left = this.#left.slice(next - brace.length);
      return this.#goTo("head");
    }
    const last = skip(this.#left, after + close);
    return last === "short" ? false : this.#goTo("ended");
  }

  #goTo(state: State): true {
    this.#state = state;
    return true;
  }
}

/**
 * Compares the beginning of a text with a literal, without spaces and line breaks.
 * @returns the length of the beginning that is equal; null if it differs, "short" if the text ends before it differs
 */
function skip(text: string, literal: string): number | "short" | null {
  let at = 0;
  for (const character of literal.replaceAll(/\s/g, "")) {
    while (at < text.length && isSpace(text[at]!)) at++;
    if (at === text.length) return "short";
    if (!text.startsWith(character, at)) return null;
    at += character.length;
  }
  return at;
}

const isSpace = (character: string) => /\s/.test(character);

/** Spaces as the grammar knows them: JSON's. */
const SPACES_AT_END = /[ \t\n\r]+$/;
const withoutSpaces = (text: string) => text.replace(/^[ \t\n\r]+/, "");

/** Length of the longest end of a text that a literal begins with. */
function overlap(text: string, literal: string): number {
  for (let length = Math.min(literal.length - 1, text.length); length > 0; length--) {
    if (literal.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}

type Head = { readonly name: string; readonly length: number } | "short" | null;

/** The beginning of a call as JSON, up to its arguments. */
function objectHead(text: string, { argumentsKey }: CallStyle & { kind: "object" }): Head {
  const start = skip(text, `${CALL_OBJECT_START}"`);
  if (start === "short" || start === null) return start;
  const [name] = /^[\w-]*/.exec(text.slice(start))!;
  const rest = text.slice(start + name.length);
  const end = skip(rest, `","${argumentsKey}":`);
  if (end === "short" || end === null) return end;
  return headOf(text, name, start + name.length + end);
}

/** @param end of the head; spaces may follow it */
function headOf(text: string, name: string, end: number): Head {
  const length = end + /^\s*/.exec(text.slice(end))![0].length;
  // More spaces may still follow.
  return length === text.length ? "short" : { name, length };
}

/** A name, perhaps an id, then a text. */
function namedHead(text: string, { between, id }: CallStyle & { kind: "named" }): Head {
  const pattern = id ? /^\s*([\w-]*)(?:\[CALL_ID\]\w*)?/ : /^\s*([\w-]*)/;
  const head = pattern.exec(text)!;
  if (id?.startsWith(text.slice(head[0].length))) return "short";
  const end = skip(text.slice(head[0].length), between);
  if (end === "short" || end === null) return end;
  return headOf(text, head[1]!, head[0].length + end);
}
