/**
 * The grammar of an output with calls. In a free text nothing is held, until the trigger of the format is complete; from there
 * on the output is held to calls, with arguments that match the schemas of their functions. The trigger is found byte by byte,
 * so it may begin and end within tokens.
 */
import type { ResponseFormat } from "../api/response-formats.ts";
import {
  choice,
  EMPTY,
  optional,
  repeat,
  sequence,
  type Rules,
} from "../grammar/rules/expressions.ts";
import { formatExpression, outputParts } from "../grammar/format.ts";
import { GrammarError } from "../grammar/rules/grammar-error.ts";
import type { ByteRange, Expression, Grammar } from "../grammar/rules/grammar.ts";
import { allParts, type Parts } from "../grammar/rules/parts.ts";
import { anyValue, COLON, COMMA } from "../grammar/text/json.ts";
import { SchemaGrammar } from "../grammar/schema/schema.ts";
import { CALL_OBJECT_START, toolFormat, type ToolFormat } from "./formats.ts";
import { callable, type FunctionTool, type ToolSettings } from "./tools.ts";

export interface OutputRules {
  readonly format?: ResponseFormat | null | undefined;
  readonly tools?: ToolSettings | null | undefined;
}

/**
 * The grammar of a response format and tools together, in parts.
 * @returns null if any text is allowed
 * @throws AppError invalid_request, unsupported_parameter, with the path of the keyword in `param`
 */
export function outputRulesParts({ format, tools }: OutputRules): Parts<Grammar | null> {
  return outputParts(tools ? "tools" : "response_format", (rules) => {
    const text = format ? formatExpression(format, rules) : null;
    if (!tools || tools.choice === "none") return text;
    return withCalls(tools, text, rules);
  });
}

/** The same at once. */
export const compileOutputRules = (rules: OutputRules): Grammar | null =>
  allParts(outputRulesParts(rules));

/** @param text the outputs without a call; null for any */
function withCalls(tools: ToolSettings, text: Expression | null, rules: Rules): Expression {
  const format = toolFormat(tools.format);
  if (format === null) throw new GrammarError(["tools"], "need a newer release of the server");
  const rest = rules.add(afterTrigger(format, tools, rules), ["tools"]);
  const calls = sequence(format.trigger, rest);
  if (tools.choice === "required") return calls;
  return text === null ? freeText(format, rest, rules) : choice([text, calls]);
}

/** The calls without the trigger that begins them. */
function afterTrigger(format: ToolFormat, tools: ToolSettings, rules: Rules): Expression {
  const { trigger, open, before, style, separator, close } = format;
  const start = before + (style.kind === "object" ? CALL_OBJECT_START : "");
  const call = rules.add(restOfCall(format, tools, rules), ["tools"]);
  const more = tools.parallel ? repeat(sequence(spaced(separator + start), call), 0, null) : EMPTY;
  return sequence(spaced((open + start).slice(trigger.length)), call, more, spaced(close));
}

/** A call after `before` and, if it is JSON, the name's key. */
function restOfCall({ style, after }: ToolFormat, tools: ToolSettings, rules: Rules): Expression {
  const names = new Set(callable(tools));
  const functions = [...tools.functions.entries()].filter(([, { name }]) => names.has(name));
  const id = style.kind === "named" && style.id ? optional(callId(style.id, rules)) : EMPTY;
  const end = style.kind === "object" && style.idKey ? endWithId(style.idKey, rules) : "}";
  const calls = functions.map(([i, tool]) => {
    const args = argumentsOf(tool, i, rules);
    if (style.kind === "named") return sequence(tool.name, id, spaced(style.between), args);
    return sequence(`"${tool.name}"`, COMMA, `"${style.argumentsKey}"`, COLON, args, end);
  });
  const space = style.kind === "object" ? optional(" ") : EMPTY;
  return sequence(space, choice(calls), spaced(after));
}

/** The id that a model gives a call. It is not used. */
function callId(marker: string, rules: Rules): Expression {
  return rules.add(sequence(marker, ID), ["tools"]);
}

/** The end of a call as JSON, perhaps with an id. */
function endWithId(key: string, rules: Rules): Expression {
  const id = sequence(COMMA, `"${key}"`, COLON, '"', ID, '"');
  return rules.add(sequence(optional(id), "}"), ["tools"]);
}

const WORD = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
const CALL_ID_CHARS_MAX = 32;
const ID = repeat(
  { byte: toRanges([...new TextEncoder().encode(WORD)].toSorted((a, b) => a - b)) },
  0,
  CALL_ID_CHARS_MAX,
);

/**
 * A function that is not strict has arguments of any JSON object if its schema has keywords that are not supported; a strict
 * one is refused then.
 */
function argumentsOf(tool: FunctionTool, index: number, rules: Rules): Expression {
  const path = ["tools", String(index), "function", "parameters"];
  const { parameters, strict } = tool;
  if (parameters === undefined || hasNoParameters(parameters)) return "{}";
  try {
    // Arguments are an object, also if the schema does not say so.
    const schema = { ...parameters, type: "object" };
    // Properties that a function does not declare mean nothing to it, and a weak model would write them without end.
    return rules.add(new SchemaGrammar(schema, rules, path, { isClosed: true }).root(), path);
  } catch (error) {
    if (!(error instanceof GrammarError) || !error.unsupported || strict) throw error;
    return rules.add(anyValue(rules, path).object, path);
  }
}

/** `properties: {}`: a function without parameters. Any object would match, but its properties would mean nothing. */
function hasNoParameters({
  properties,
  additionalProperties,
  required = [],
}: Record<string, unknown>): boolean {
  const isEmpty =
    typeof properties === "object" && properties !== null && Object.keys(properties).length === 0;
  const requiresNone = Array.isArray(required) && required.length === 0;
  return isEmpty && requiresNone && (additionalProperties ?? false) === false;
}

/** A text of a format: its spaces may be missing. */
function spaced(text: string): Expression {
  return sequence(...text.split(/( )/).map((part) => (part === " " ? optional(" ") : part)));
}

/**
 * Any bytes, and after a trigger the rest of the calls. There is one rule for each beginning of the trigger that the text may
 * end with (as in the Knuth-Morris-Pratt algorithm), so the next byte always leads to one rule.
 */
function freeText(format: ToolFormat, rest: Expression, rules: Rules): Expression {
  const { afterText, trigger } = format;
  const path = ["tools"];
  const bytes = [...new TextEncoder().encode(trigger)];
  const states = bytes.map(() => rules.reserve(path));
  // Text in which no trigger counts any more.
  const plain = repeat({ byte: [[0, 255]] }, 0, null);
  for (const [length, state] of states.entries()) {
    const byTarget = new Map<number, number[]>();
    for (let byte = 0; byte < 256; byte++) {
      const target = afterText ? matched(bytes, length, byte) : startMatched(bytes, length, byte);
      byTarget.set(target, [...(byTarget.get(target) ?? []), byte]);
    }
    const options = Array.from(byTarget, ([target, from]) => {
      const next =
        target === bytes.length ? rest : target === ELSEWHERE ? plain : states[target]!.reference;
      return sequence({ byte: toRanges(from) }, next);
    });
    state.define(choice([EMPTY, ...options]));
  }
  return states[0]!.reference;
}

const ELSEWHERE = -1;
const SPACES: readonly number[] = [0x20, 0x09, 0x0a, 0x0d];

/** Bytes of the trigger that a text ends with after one more byte, if it ends with `length` of them now. */
function matched(trigger: readonly number[], length: number, byte: number): number {
  for (let next = length + 1; next > 0; next--) {
    const isEnd = trigger[next - 1] === byte;
    const isSame = (i: number) => trigger[i] === trigger[length + 1 - next + i];
    if (isEnd && trigger.slice(0, next - 1).every((_, i) => isSame(i))) return next;
  }
  return 0;
}

/** The same for a trigger that counts only at the beginning of the text, after spaces. */
function startMatched(trigger: readonly number[], length: number, byte: number): number {
  if (trigger[length] === byte) return length + 1;
  return length === 0 && SPACES.includes(byte) ? 0 : ELSEWHERE;
}

function toRanges(bytes: readonly number[]): ByteRange[] {
  const ranges: [number, number][] = [];
  for (const byte of bytes) {
    const last = ranges.at(-1);
    if (last && last[1] === byte - 1) last[1] = byte;
    else ranges.push([byte, byte]);
  }
  return ranges;
}
