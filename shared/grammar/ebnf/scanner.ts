/** Reads the characters of a grammar's text: spaces, comments, names, numbers, and characters that may be escaped. */
import { GrammarError, type Path } from "../rules/grammar-error.ts";

/** A comment ends with its line, so that no part of it is taken for grammar. */
const SPACE = /(?:\s|#[^\r\n]*(?:[\r\n]|$))*/uy;
const NAME = /[A-Za-z_][\w-]*/uy;
const DEFINES = new RegExp(`${SPACE.source}::=`, SPACE.flags);
const DIGITS = /\d{1,16}/uy;
const HEX_DIGITS = { x: 2, u: 4, U: 8 } as const;
const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  '"': '"',
  "\\": "\\",
  "[": "[",
  "]": "]",
  "-": "-",
  "^": "^",
};

export class Scanner {
  readonly #text: string;
  readonly #path: Path;
  #at = 0;

  /** @param path keys from the top of the format to the grammar */
  constructor(text: string, path: Path) {
    this.#text = text;
    this.#path = path;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  /** Whether this text comes next. */
  isNext(text: string): boolean {
    return this.#text.startsWith(text, this.#at);
  }

  /** Reads this text, if it comes next. */
  take(text: string): boolean {
    const isNext = this.isNext(text);
    if (isNext) this.#at += text.length;
    return isNext;
  }

  skipSpace(): void {
    this.#match(SPACE);
  }

  /** The name of a rule; undefined if none comes next. */
  name(): string | undefined {
    return this.#match(NAME);
  }

  /** Whether the definition of a rule comes next. */
  isDefinition(): boolean {
    const at = this.#at;
    const isDefinition = this.name() !== undefined && this.#match(DEFINES) !== undefined;
    this.#at = at;
    return isDefinition;
  }

  number(): number | undefined {
    const digits = this.#match(DIGITS);
    return digits === undefined ? undefined : Number(digits);
  }

  /** One character of a literal or a set, which may be written as an escape sequence. @throws GrammarError */
  character(): number {
    if (this.isAtEnd) throw this.error("a literal or a set is not closed");
    const isEscaped = this.take("\\");
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) throw this.error("an escape sequence is not complete");
    const character = String.fromCodePoint(code);
    this.#at += character.length;
    if (!isEscaped) return this.#scalar(code);
    if (Object.hasOwn(HEX_DIGITS, character)) {
      return this.#hexadecimal(HEX_DIGITS[character as keyof typeof HEX_DIGITS]);
    }
    const escaped = Object.hasOwn(ESCAPES, character) ? ESCAPES[character] : undefined;
    if (escaped === undefined) throw this.error("there is no such escape sequence");
    return escaped.codePointAt(0)!;
  }

  /** An error at this place of the text. */
  error(problem: string): GrammarError {
    const lines = this.#text.slice(0, this.#at).split("\n");
    const place = `line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
    return new GrammarError(this.#path, `must be a grammar in GBNF: ${problem} (${place})`);
  }

  #hexadecimal(length: number): number {
    const digits = this.#text.slice(this.#at, this.#at + length);
    if (digits.length < length || !/^[\da-f]+$/iu.test(digits)) {
      throw this.error(`this escape sequence has ${length} hexadecimal digits`);
    }
    this.#at += length;
    return this.#scalar(Number.parseInt(digits, 16));
  }

  #scalar(code: number): number {
    const isScalar = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    if (!isScalar) throw this.error("there is no such character");
    return code;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }
}
