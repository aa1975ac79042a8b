/**
 * Jinja templates as transformers renders them, with @huggingface/jinja. Only this file imports it. The library reads "\r\n" as it
 * is and ignores the argument of `strip`, `lstrip` and `rstrip`; both are corrected here.
 */
import { Template } from "@huggingface/jinja";

/** Names of functions that templates cannot write, so that they hide none of theirs. */
const STRIP = "strip characters";
const TIME = "strftime at a time";

export class JinjaTemplate {
  /** Whether the text depends on when it is rendered. */
  readonly readsClock: boolean;
  readonly #template: Template;

  /** @throws Error if it is not a template */
  constructor(source: string) {
    const text = source.replaceAll(/\r\n?/g, "\n");
    this.#template = new Template(text);
    useOwnFunctions(this.#template.parsed);
    this.readsClock = text.includes("strftime_now");
  }

  /** @param nowMs the time that the template sees @throws Error that the template raises */
  render(items: Readonly<Record<string, unknown>>, nowMs: number): string {
    return this.#template.render({
      ...items,
      [TIME]: (format: string) => strftime(new Date(nowMs), format),
      [STRIP]: stripCharacters,
    });
  }
}

interface SyntaxNode {
  readonly type: string;
  value?: unknown;
  callee?: unknown;
  args?: unknown;
}

/** Replaces the time of the library by the given one, and calls such as `text.lstrip("\n")` by calls of `stripCharacters`. */
function useOwnFunctions(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const child of Object.values(node)) useOwnFunctions(child);
  const call = node as SyntaxNode;
  if (call.type === "Identifier" && call.value === "strftime_now") call.value = TIME;
  if (call.type !== "CallExpression" || !Array.isArray(call.args) || call.args.length !== 1) return;
  const { type, object, property } = call.callee as SyntaxNode & {
    object?: unknown;
    property?: { readonly value?: unknown };
  };
  const method = property?.value;
  if (type !== "MemberExpression" || typeof method !== "string") return;
  if (!/^[lr]?strip$/.test(method)) return;
  call.args = [object, { type: "StringLiteral", value: method }, call.args[0] as unknown];
  call.callee = { type: "Identifier", value: STRIP };
}

/** Python's `text.strip(characters)`. @param characters null for white space */
function stripCharacters(text: string, method: string, characters: string | null): string {
  const isStripped = (character: string) =>
    characters === null ? character.trim() === "" : characters.includes(character);
  let [start, end] = [0, text.length];
  if (method !== "rstrip") while (start < end && isStripped(text[start]!)) start++;
  if (method !== "lstrip") while (end > start && isStripped(text[end - 1]!)) end--;
  return text.slice(start, end);
}

const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** Python's `strftime`, in UTC, because workers of one job may be in different time zones. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const [month, day] = [MONTHS[date.getUTCMonth()]!, DAYS[date.getUTCDay()]!];
  const hour = date.getUTCHours();
  const yearDay = Math.floor((date.getTime() - Date.UTC(date.getUTCFullYear(), 0)) / 86_400_000);
  const parts: Readonly<Record<string, string>> = {
    "%": "%",
    Y: String(date.getUTCFullYear()),
    y: two(date.getUTCFullYear() % 100),
    m: two(date.getUTCMonth() + 1),
    B: month,
    b: month.slice(0, 3),
    d: two(date.getUTCDate()),
    e: String(date.getUTCDate()).padStart(2, " "),
    j: String(yearDay + 1).padStart(3, "0"),
    A: day,
    a: day.slice(0, 3),
    H: two(hour),
    I: two(hour % 12 || 12),
    p: hour < 12 ? "AM" : "PM",
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    Z: "UTC",
    z: "+0000",
  };
  return format.replaceAll(/%(-?)([a-zA-Z%])/g, (whole, unpadded: string, name: string) => {
    const part = parts[name];
    if (part === undefined) return whole;
    return unpadded === "-" ? part.replace(/^[0 ]+(?=.)/, "") : part;
  });
}
