/**
 * JSON.parse loses the order of keys such as "10" and "2", and numbers that a number of JavaScript cannot represent. Schemas
 * need both, so this file keeps them. Most texts lose nothing, and then nothing is kept.
 */

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
const SCHEMAS = /"(?:schema|parameters|input_schema|json|guided_json)"\s*:/;

/**
 * Remembers what the parsed value of a valid JSON text has lost, if it has a schema.
 * @param isSchema whether it is a schema
 */
export function rememberSource(text: string, value: unknown, isSchema: boolean): void {
  if ((isSchema || SCHEMAS.test(text)) && LOSSY.test(text)) new Scanner(text).value(value);
}

const TOKEN = /\s*(?:("[^"\\]*(?:\\.[^"\\]*)*")|(-?\d[\d.eE+-]*)|(true|false|null)|([[\]{},:]))/y;

/** Reads a JSON text that is valid, beside its parsed value. */
class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** @returns the text of a number, else undefined */
  value(value: unknown): string | undefined {
    const token = this.#next();
    if (token === "{") this.#object(value);
    else if (token === "[") this.#array(value);
    return /^[-\d]/.test(token) ? token : undefined;
  }

  #object(value: unknown): void {
    const keys = new Set<string>();
    const numbers = new Map<string, string>();
    const members = (value ?? {}) as Record<string, unknown>;
    for (let token = this.#next(); token !== "}"; token = this.#next()) {
      if (token === ",") continue;
      const key = JSON.parse(token) as string;
      keys.add(key);
      this.#next();
      const member = Object.hasOwn(members, key) ? members[key] : undefined;
      this.#number(key, this.value(member), numbers);
    }
    if (typeof value !== "object" || value === null) return;
    const inOrder = [...keys];
    const isOrdered = Object.keys(value).every((key, i) => key === inOrder[i]);
    if (isOrdered && numbers.size === 0) return;
    sources.set(value, { numbers, ...(!isOrdered && { keys: inOrder }) });
  }

  #array(value: unknown): void {
    const numbers = new Map<string, string>();
    let index = 0;
    const start = this.#at;
    if (this.#next() === "]") return;
    this.#at = start;
    do {
      this.#number(String(index), this.value((value as unknown[] | undefined)?.[index]), numbers);
      index++;
    } while (this.#next() === ",");
    if (Array.isArray(value) && numbers.size > 0) sources.set(value, { numbers });
  }

  #number(key: string, text: string | undefined, numbers: Map<string, string>): void {
    if (text === undefined) numbers.delete(key);
    else if (isChanged(text)) numbers.set(key, text);
  }

  #next(): string {
    TOKEN.lastIndex = this.#at;
    const token = TOKEN.exec(this.#text)!;
    this.#at = TOKEN.lastIndex;
    return token[0].trimStart();
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
  const trimmed = digits.replace(/0+$/, "");
  if (trimmed === "") return "0";
  return `${number.startsWith("-") ? "-" : ""}${trimmed}e${Number(exponent) + whole.length - leading}`;
}
