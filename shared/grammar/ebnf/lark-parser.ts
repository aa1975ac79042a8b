/**
 * Parses a grammar of the Lark toolkit: rules and terminals over strings, patterns, ranges, groups, alternatives and repetitions.
 * Only the texts of a grammar matter here, so what shapes Lark's syntax trees (`?rule`, `!rule`, `-> alias`) or chooses among several
 * trees of one text (priorities) is read over.
 */
import { LIMITS } from "../../api/limits.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { COMMON } from "./lark-common.ts";
import { shortName } from "./named-rule.ts";
import { Scanner, type Syntax } from "./scanner.ts";

/** The content of a rule or a terminal. */
export type LarkPart =
  | { readonly kind: "text"; readonly text: string; readonly isCaseIgnored: boolean }
  | { readonly kind: "pattern"; readonly source: string; readonly flags: string }
  | { readonly kind: "range"; readonly min: number; readonly max: number }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "all" | "any"; readonly parts: readonly LarkPart[] }
  | {
      readonly kind: "repeat";
      readonly of: LarkPart;
      readonly min: number;
      readonly max: number | null;
    };

export interface LarkGrammar {
  /** The rules and the terminals, by name, in the order of the text. */
  readonly definitions: ReadonlyMap<string, LarkPart>;
  /** The terminals of `%ignore`, which may stand between others. */
  readonly ignored: readonly LarkPart[];
}

/** Terminals have names without small letters. */
export const isTerminal = (name: string) => !/[a-z]/u.test(name);

const LARK: Syntax = {
  name: "Lark",
  space: /(?:\s|(?:#|\/\/)[^\r\n]*)*/uy,
  ruleName: /[A-Za-z_](?:\w|-(?!>))*/uy,
  // Templates and attributes are read as part of a definition, to be refused by name.
  head: /[?!]{0,2}[A-Za-z_](?:\w|-(?!>))*(?:\.-?\d+)?(?:\{[^}:]*\}|\[[^\]:]*\])?/uy,
  defines: ":",
  escapes: {
    n: "\n",
    r: "\r",
    t: "\t",
    f: "\f",
    v: "\v",
    '"': '"',
    "'": "'",
    "\\": "\\",
    "/": "/",
  },
};
const MODIFIERS = /[?!]*/uy;
const PRIORITY = /\.-?\d+/uy;
const PATTERN = /\/(?![/*])(?:\\.|[^\\/\r\n])+\//uy;
const FLAGS = /[a-z]*/uy;
const LIBRARY = /\.*\w+(?:\.\w+)*/uy;
const SPECIAL_TOKEN = /<[|\w[]/uy;

/** @throws GrammarError for a syntax error, and for what is not supported, with the rule that has it */
export function parseLark(text: string, path: Path): LarkGrammar {
  return new LarkParser(text, path).grammar();
}

class LarkParser {
  readonly #scanner: Scanner;
  readonly #path: Path;
  readonly #definitions = new Map<string, LarkPart>();
  readonly #ignored: LarkPart[] = [];
  /** The rule that is being read. */
  #current = "";
  #depth = 0;

  constructor(text: string, path: Path) {
    this.#scanner = new Scanner(text, path, LARK);
    this.#path = path;
  }

  grammar(): LarkGrammar {
    const scanner = this.#scanner;
    for (scanner.skipSpace(); !scanner.isAtEnd; scanner.skipSpace()) {
      if (scanner.take("%")) this.#directive();
      else if (scanner.isDefinition()) this.#definition();
      else throw scanner.error('expected a rule, such as start: "a" (or root ::= "a" in GBNF)');
    }
    return { definitions: this.#definitions, ignored: this.#ignored };
  }

  #definition(): void {
    const scanner = this.#scanner;
    scanner.match(MODIFIERS);
    this.#current = scanner.name()!;
    scanner.match(PRIORITY);
    if (scanner.isNext("{")) throw this.#unsupported("is a template");
    if (scanner.isNext("[")) throw this.#unsupported("has attributes");
    scanner.skipSpace();
    if (!scanner.take(":")) throw scanner.error("expected : after the name of a rule");
    this.#define(this.#current, this.#alternatives());
  }

  #define(name: string, content: LarkPart): void {
    if (this.#definitions.has(name)) {
      throw this.#scanner.error(`${shortName(name)} is defined twice`);
    }
    this.#definitions.set(name, content);
  }

  #directive(): void {
    const scanner = this.#scanner;
    const keyword = scanner.name() ?? "";
    this.#current = "";
    scanner.skipSpace();
    if (keyword === "ignore") this.#ignored.push(this.#alternatives());
    else if (keyword === "import") this.#import();
    else throw this.#unsupported(`has %${shortName(keyword)}`);
  }

  /** `%import common.NAME -> OTHER`, or `%import common (NAME, OTHER)`. */
  #import(): void {
    const scanner = this.#scanner;
    const names = (scanner.match(LIBRARY) ?? "").split(".");
    scanner.skipSpace();
    const imported = scanner.take("(") ? this.#list() : names.splice(-1);
    const library = names.join(".");
    if (library !== "common") {
      throw this.#unsupported(`imports from ${shortName(library) || "a file"}, not from common`);
    }
    scanner.skipSpace();
    const alias = imported.length === 1 && scanner.take("->") ? this.#name() : null;
    for (const name of imported) {
      const source = Object.hasOwn(COMMON, name) ? COMMON[name] : undefined;
      if (source === undefined) {
        throw scanner.error(`the library common has no terminal ${shortName(name)}`);
      }
      this.#define(alias ?? name, { kind: "pattern", source, flags: "" });
    }
  }

  #list(): string[] {
    const names: string[] = [];
    do names.push(this.#name());
    while (this.#scanner.take(","));
    if (!this.#scanner.take(")")) throw this.#scanner.error("a list of names is not closed");
    return names;
  }

  #name(): string {
    this.#scanner.skipSpace();
    const name = this.#scanner.name();
    if (name === undefined) throw this.#scanner.error("expected a name");
    this.#scanner.skipSpace();
    return name;
  }

  /** Up to a closing bracket, the next rule or directive, or the end. */
  #alternatives(): LarkPart {
    const scanner = this.#scanner;
    scanner.skipSpace();
    // A first alternative may begin with |, as the others.
    scanner.take("|");
    const parts = [this.#sequence()];
    while (scanner.take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: "any", parts };
  }

  #sequence(): LarkPart {
    const scanner = this.#scanner;
    const parts: LarkPart[] = [];
    for (scanner.skipSpace(); !this.#isEndOfSequence(); scanner.skipSpace()) {
      parts.push(this.#repeated(this.#part()));
    }
    if (scanner.take("->")) this.#name();
    return parts.length === 1 ? parts[0]! : { kind: "all", parts };
  }

  #isEndOfSequence(): boolean {
    const scanner = this.#scanner;
    const isEnd = ["|", ")", "]", "%ignore", "%import", "%declare", "->"].some((text) =>
      scanner.isNext(text),
    );
    return isEnd || scanner.isAtEnd || scanner.isDefinition();
  }

  #part(): LarkPart {
    const scanner = this.#scanner;
    if (scanner.take("(")) return this.#group(")");
    if (scanner.take("[")) {
      return { kind: "repeat", of: this.#group("]"), min: 0, max: 1 };
    }
    for (const quote of ['"', "'"]) if (scanner.take(quote)) return this.#string(quote);
    const pattern = scanner.match(PATTERN);
    if (pattern !== undefined) {
      return {
        kind: "pattern",
        source: pattern.slice(1, -1),
        flags: scanner.match(FLAGS) ?? "",
      };
    }
    const name = scanner.name();
    if (name !== undefined) return this.#use(name);
    if (scanner.isNext("%")) {
      scanner.take("%");
      throw this.#unsupported(`has %${shortName(scanner.name() ?? "")}`);
    }
    if (scanner.match(SPECIAL_TOKEN) !== undefined) throw this.#unsupported("has special tokens");
    throw scanner.error("expected a string, a pattern, a group or a name");
  }

  #use(name: string): LarkPart {
    const isTemplate = this.#scanner.isNext("{") && !this.#scanner.isCount();
    if (isTemplate) throw this.#unsupported(`uses the template ${shortName(name)}`);
    return { kind: "name", name };
  }

  #group(close: string): LarkPart {
    const scanner = this.#scanner;
    if (++this.#depth > LIMITS.regexDepthMax) {
      throw scanner.error(`more than ${LIMITS.regexDepthMax} groups are within each other`);
    }
    const content = this.#alternatives();
    if (!scanner.take(close)) throw scanner.error(`a group is not closed with ${close}`);
    this.#depth--;
    return content;
  }

  /** A string, or a range of characters such as "a".."z". */
  #string(quote: string): LarkPart {
    const scanner = this.#scanner;
    const text = this.#characters(quote);
    if (!scanner.isNext("..")) {
      return { kind: "text", text, isCaseIgnored: scanner.take("i") };
    }
    scanner.take("..");
    const closing = ['"', "'"].find((each) => scanner.take(each));
    const last = closing === undefined ? "" : this.#characters(closing);
    const [min, ...others] = Array.from(text);
    const [max, ...more] = Array.from(last);
    if (min === undefined || max === undefined || others.length + more.length > 0 || max < min) {
      throw scanner.error('expected a range of characters, such as "a".."z"');
    }
    return { kind: "range", min: min.codePointAt(0)!, max: max.codePointAt(0)! };
  }

  #characters(quote: string): string {
    const codes: number[] = [];
    while (!this.#scanner.take(quote)) codes.push(this.#scanner.character());
    return codes.map((code) => String.fromCodePoint(code)).join("");
  }

  #repeated(of: LarkPart): LarkPart {
    const scanner = this.#scanner;
    scanner.skipSpace();
    if (scanner.take("*")) return { kind: "repeat", of, min: 0, max: null };
    if (scanner.take("+")) return { kind: "repeat", of, min: 1, max: null };
    if (scanner.take("?")) return { kind: "repeat", of, min: 0, max: 1 };
    if (scanner.take("~")) {
      const min = scanner.repetitions();
      const max = scanner.take("..") ? scanner.repetitions() : min;
      if (min === undefined || max === undefined) {
        throw scanner.error("expected a repetition, such as ~2..5");
      }
      return { kind: "repeat", of, ...scanner.inOrder(min, max) };
    }
    return scanner.take("{") ? { kind: "repeat", of, ...scanner.counts() } : of;
  }

  #unsupported(problem: string): GrammarError {
    const path = this.#current === "" ? this.#path : [...this.#path, this.#current];
    return new GrammarError(path, `${problem}, which is not supported`, { unsupported: true });
  }
}
