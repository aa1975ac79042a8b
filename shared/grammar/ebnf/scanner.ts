/** Reads the characters of a grammar's text: spaces, comments, names, numbers, and characters that may be escaped. */
import { LIMITS } from "../../api/limits.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";

/** The spelling of a language of grammars. Its patterns are sticky. */
export interface Syntax {
  /** As messages name it. */
  readonly name: string;
  /** Spaces and comments, of which each reaches the end of its line. It matches everywhere, if only the empty text. */
  readonly space: RegExp;
  readonly ruleName: RegExp;
  /** The start of a rule, up to the spaces before `defines`. */
  readonly head: RegExp;
  /** Stands between the head of a rule and its content. */
  readonly defines: string;
  /** The characters that escape sequences of one letter stand for. */
  readonly escapes: Readonly<Record<string, string>>;
}

const DIGITS = /\d{1,16}/uy;
const COUNTS = /^\{\s*(?:\d|,)/u;
const HEX_DIGITS = { x: 2, u: 4, U: 8 } as const;
export class Scanner {
  readonly #text: string;
  readonly #path: Path;
  readonly #syntax: Syntax;
  #at = 0;

  /** @param path keys from the top of the format to the grammar */
  constructor(text: string, path: Path, syntax: Syntax) {
    this.#text = text;
    this.#path = path;
    this.#syntax = syntax;
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
    this.match(this.#syntax.space);
  }

  /** The name of a rule; undefined if none comes next. */
  name(): string | undefined {
    return this.match(this.#syntax.ruleName);
  }

  /** Whether the definition of a rule comes next. */
  isDefinition(): boolean {
    const at = this.#at;
    const hasHead = this.match(this.#syntax.head) !== undefined;
    if (hasHead) this.skipSpace();
    const isDefinition = hasHead && this.isNext(this.#syntax.defines);
    this.#at = at;
    return isDefinition;
  }

  /** Whether the counts of a repetition come next. */
  isCount(): boolean {
    return COUNTS.test(this.#text.slice(this.#at, this.#at + 64));
  }

  /** The counts of a repetition, such as 2,5}. @throws GrammarError */
  counts(): { readonly min: number; readonly max: number | null } {
    const count = this.repetitions();
    const isRange = this.take(",");
    const max = isRange ? (this.repetitions() ?? null) : count;
    if (max === undefined || !this.take("}")) {
      throw this.error("expected a repetition, such as {2,5}");
    }
    return this.inOrder(count ?? 0, max);
  }

  /** @throws GrammarError */
  inOrder(min: number, max: number | null) {
    if (max !== null && max < min) throw this.error("a repetition ends before it begins");
    return { min, max };
  }

  /** How often a part is repeated, with spaces around it; undefined if no number comes next. @throws GrammarError */
  repetitions(): number | undefined {
    this.skipSpace();
    const digits = this.match(DIGITS);
    this.skipSpace();
    if (digits === undefined || Number(digits) <= LIMITS.grammarRepetitionsMax) {
      return digits === undefined ? undefined : Number(digits);
    }
    throw this.error(`a part is repeated at most ${LIMITS.grammarRepetitionsMax} times`);
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
    const { escapes } = this.#syntax;
    const escaped = Object.hasOwn(escapes, character) ? escapes[character] : undefined;
    if (escaped === undefined) throw this.error("there is no such escape sequence");
    return escaped.codePointAt(0)!;
  }

  /** An error at this place of the text. */
  error(problem: string): GrammarError {
    const lines = this.#text.slice(0, this.#at).split("\n");
    const place = `line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
    return new GrammarError(
      this.#path,
      `must be a grammar in ${this.#syntax.name}: ${problem} (${place})`,
    );
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

  /** Reads the text that a sticky pattern matches here; undefined if it does not. */
  match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }
}
