/**
 * JSON.parse loses the order of keys such as "10" and "2", and numbers that a number of JavaScript cannot represent. Schemas
 * need both, so this file keeps them. Most texts lose nothing, and then nothing is kept.
 */

import { LIMITS } from "./limits.ts";

interface Source {
  /** The keys as the text has them, if JavaScript orders them otherwise. */
  keys?: readonly string[];
  /** The texts of members or items that JavaScript would write as other numbers, or without their exponents. */
  readonly numbers: Map<string, string>;
}

const sources = new WeakMap<object, Source>();

/** The keys of a parsed object, in the order of its text. */
export const keysInOrder = (object: object): readonly string[] =>
  sources.get(object)?.keys ?? Object.keys(object);

/** The text of a number in a parsed object or array. */
export function numberText(container: object, key: string | number): string {
  const value = (container as Record<string | number, unknown>)[key];
  return sources.get(container)?.numbers.get(String(key)) ?? String(value);
}

/** JSON of a parsed value with everything that its text had. Equal texts are of equal values. */
export function sourceJson(value: unknown): string {
  return lostNothing(value) ? JSON.stringify(value) : writeSource(value);
}

/** The value of a text that `sourceJson` has written. */
export function parseSource(text: string): unknown {
  const value: unknown = JSON.parse(text);
  rememberSource(text, value, true);
  return value;
}

function writeSource(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const member = (key: string | number): string => {
    const part = (value as Record<string | number, unknown>)[key] ?? null;
    return typeof part === "number" ? numberText(value, key) : writeSource(part);
  };
  if (Array.isArray(value)) return `[${value.map((_, i) => member(i)).join()}]`;
  const isWritten = (key: string) => (value as Record<string, unknown>)[key] !== undefined;
  const keys = keysInOrder(value).filter(isWritten);
  return `{${keys.map((key) => `${JSON.stringify(key)}:${member(key)}`).join()}}`;
}

/** Whether a parsed value is the same as its text: equal values then have equal JSON. */
function lostNothing(value: unknown): boolean {
  const open = [value];
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    if (typeof part !== "object" || part === null) continue;
    if (sources.has(part)) return false;
    for (const member of Object.values(part)) if (typeof member === "object") open.push(member);
  }
  return true;
}

/** Nothing can be lost in a text without such parts. */
const LOSSY = /\d{16}|\d[eE]|\.\d{15}|"\d+"\s*:/;

/** The members of requests whose values are schemas. */
const SCHEMAS = ["schema", "parameters", "input_schema", "json", "guided_json"];
const HAS_SCHEMA = new RegExp(`"(?:${SCHEMAS.join("|")})"\\s*:`);

/** The schemas of a text have more parts to remember than `exactPartsMax`. */
export class TooManyParts extends Error {}

/**
 * Remembers what the schemas in the parsed value of a valid JSON text have lost.
 * @param isSchema whether the value itself is a schema
 * @throws TooManyParts
 */
export function rememberSource(text: string, value: unknown, isSchema: boolean): void {
  const hasSchema = isSchema || HAS_SCHEMA.test(text);
  if (hasSchema && LOSSY.test(text)) new Scanner(text).value(value, isSchema);
}

const [QUOTE, COMMA, NINE, COLON, BACKSLASH] = [34, 44, 57, 58, 92];
const [OPEN_ARRAY, CLOSE_ARRAY, LOWER_F, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 102, 123, 125];
/** Shorter numbers without an exponent are exact. */
const EXACT_CHARS = 15;

/** Reads a JSON text that is valid, beside its parsed value. */
class Scanner {
  readonly #text: string;
  #at = 0;
  #left: number = LIMITS.exactPartsMax;

  constructor(text: string) {
    this.#text = text;
  }

  /** @returns the text of a number in a schema that JavaScript changes, else undefined */
  value(value: unknown, isSchema: boolean): string | undefined {
    const code = this.#next();
    if (code === OPEN_OBJECT) this.#object(value, isSchema);
    else if (code === OPEN_ARRAY) this.#array(value, isSchema);
    else if (code === QUOTE) this.#string();
    else if (code <= NINE) return this.#number(isSchema);
    else this.#at += code === LOWER_F ? "false".length : "true".length;
    return undefined;
  }

  #object(value: unknown, isSchema: boolean): void {
    const keys = new Set<string>();
    const numbers = new Map<string, string>();
    const members = (value ?? {}) as Record<string, unknown>;
    this.#at++;
    for (let code = this.#next(); code !== CLOSE_OBJECT; code = this.#next()) {
      if (code === COMMA) this.#at++;
      else {
        const key = this.#key();
        const member = Object.hasOwn(members, key) ? members[key] : undefined;
        const number = this.value(member, isSchema || SCHEMAS.includes(key));
        if (!isSchema) continue;
        keys.add(key);
        // Of members with the same key, the last one counts.
        if (number === undefined) numbers.delete(key);
        else numbers.set(key, number);
      }
    }
    this.#at++;
    if (!isSchema || typeof value !== "object" || value === null) return;
    const inOrder = [...keys];
    const isOrdered = Object.keys(value).every((key, i) => key === inOrder[i]);
    if (isOrdered && numbers.size === 0) return;
    this.#count();
    sources.set(value, { numbers, ...(!isOrdered && { keys: inOrder }) });
  }

  #array(value: unknown, isSchema: boolean): void {
    const numbers = new Map<string, string>();
    const items = Array.isArray(value) ? (value as readonly unknown[]) : [];
    this.#at++;
    let index = 0;
    for (let code = this.#next(); code !== CLOSE_ARRAY; code = this.#next()) {
      if (code === COMMA) this.#at++;
      else {
        const number = this.value(items[index], isSchema);
        if (number !== undefined) numbers.set(String(index), number);
        index++;
      }
    }
    this.#at++;
    if (numbers.size > 0) sources.set(items, { numbers });
  }

  #key(): string {
    const start = this.#at;
    this.#string();
    const key = this.#text.slice(start + 1, this.#at - 1);
    if (this.#next() === COLON) this.#at++;
    return key.includes("\\") ? (JSON.parse(`"${key}"`) as string) : key;
  }

  #string(): void {
    const text = this.#text;
    for (let end = text.indexOf('"', this.#at + 1); ; end = text.indexOf('"', end + 1)) {
      let escapes = 0;
      while (text.charCodeAt(end - 1 - escapes) === BACKSLASH) escapes++;
      if (escapes % 2 === 1) continue;
      this.#at = end + 1;
      return;
    }
  }

  #number(isSchema: boolean): string | undefined {
    const start = this.#at;
    let hasExponent = false;
    for (; ; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      // e and E.
      if ((code | 32) === 101) hasExponent = true;
      // Digits, plus, minus and point.
      else if (!(code <= NINE && code > COMMA) && code !== 43) break;
    }
    if (!isSchema || (!hasExponent && this.#at - start <= EXACT_CHARS)) return undefined;
    const number = this.#text.slice(start, this.#at);
    if (!isChanged(number)) return undefined;
    this.#count();
    return number;
  }

  #count(): void {
    if (--this.#left < 0) throw new TooManyParts();
  }

  /** The next character that is no space. */
  #next(): number {
    for (; ; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (!(code <= 32)) return code;
    }
  }
}

/** Whether JavaScript writes a number without its exponent, or with other digits, leading and trailing zeros apart. */
function isChanged(text: string): boolean {
  const hasExponent = /e/i.test(text) && !/e/i.test(String(Number(text)));
  return hasExponent || significant(text) !== significant(String(Number(text)));
}

function significant(number: string): string {
  const [mantissa = "", exponent = "0"] = number.toLowerCase().split("e");
  const [whole = "", fraction = ""] = mantissa.replace("-", "").split(".");
  const digits = (whole + fraction).replace(/^0+/, "");
  const leading = whole.length + fraction.length - digits.length;
  // Not by /0+$/, which takes quadratic time for zeros in front of another digit.
  let end = digits.length;
  while (digits[end - 1] === "0") end--;
  const trimmed = digits.slice(0, end);
  if (trimmed === "") return "0";
  return `${number.startsWith("-") ? "-" : ""}${trimmed}e${Number(exponent) + whole.length - leading}`;
}
