/**
 * Terminals of a Lark grammar. As in Lark, each is one pattern, together with the terminals that it uses: an assertion in one part
 * sees the parts beside it.
 */
import type { CharSet, Concatenation, Element, NoParent } from "refa";
import { LIMITS } from "../../api/limits.ts";
import type { Rules } from "../rules/expressions.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { ANY_CHARACTER, PLAIN, setOf } from "../text/characters.ts";
import { parsePattern, type Alternatives, type PatternNode } from "../text/pattern.ts";
import { PARSE_STEPS, Regex } from "../text/regex.ts";
import { isTerminal, type LarkGrammar, type LarkPart } from "./lark-parser.ts";
import { larkPattern } from "./lark-pattern.ts";
import { shortName } from "./named-rule.ts";

/** The part of a pattern that a terminal becomes. */
interface Content extends Extent {
  readonly elements: readonly NoParent<Element>[];
}

/** Of a content, with all copies of other terminals. */
interface Extent {
  /** Nodes. */
  readonly size: number;
  /** Parts within each other. */
  readonly levels: number;
}

/** Three for each of the nested groups of a terminal, and some for other terminals. The compilers are recursive. */
const LEVELS_MAX = 4 * LIMITS.regexDepthMax;

/** Steps of a character that has two spellings, beside those of its pattern. */
const CHARACTER_STEPS = 8;

export class LarkTerminals {
  readonly #definitions: LarkGrammar["definitions"];
  readonly #rules: Rules;
  readonly #path: Path;
  /** By name; null while it is read. */
  readonly #known = new Map<string, Content | null>();
  readonly #compiledByName = new Map<string, Expression>();
  readonly #paths = new Map<string, Path>();
  /** Parts that are being read, each within the one before. */
  #level = 0;

  /** @param path keys from the top of the format to the grammar */
  constructor({ definitions }: LarkGrammar, rules: Rules, path: Path) {
    this.#definitions = definitions;
    this.#rules = rules;
    this.#path = path;
  }

  /**
   * The texts of a string, a pattern, a range or a terminal.
   * @param user the rule that it is in
   * @throws GrammarError
   */
  expression(part: LarkPart, user: string): Expression {
    if (part.kind === "text" && !part.isCaseIgnored) return part.text;
    if (part.kind !== "name") return this.#compiled(part, user);
    const known = this.#compiledByName.get(part.name) ?? this.#compiled(part, user);
    this.#compiledByName.set(part.name, known);
    return known;
  }

  #compiled(part: LarkPart, user: string): Expression {
    const name = part.kind === "name" ? part.name : user;
    const path = this.#pathOf(name);
    const { elements, size } = this.#content(part, user);
    this.#rules.spend(size, path);
    const alternatives = [concatenation(elements)];
    if (looksOutside(alternatives, true, true)) {
      const problem = "has an assertion at the edge of a terminal, which is not supported";
      throw new GrammarError(path, problem, { unsupported: true });
    }
    const regex = new Regex({ alternatives, alphabet: ANY_CHARACTER }, this.#rules, path);
    const whole = regex.whole(PLAIN, { isShortest: hasLazy(alternatives) });
    return this.#rules.add(whole, path);
  }

  #content(part: LarkPart, user: string): Content {
    if (++this.#level > LEVELS_MAX) throw this.#tooDeep(user);
    const content = this.#partContent(part, user);
    this.#level--;
    return content;
  }

  #partContent(part: LarkPart, user: string): Content {
    switch (part.kind) {
      case "text": {
        this.#rules.spend(CHARACTER_STEPS * part.text.length, this.#pathOf(user));
        const elements = Array.from(part.text, (character) => oneOf(character, part.isCaseIgnored));
        return { elements, size: 1 + elements.length, levels: 1 };
      }
      case "range":
        return { elements: [characterClass(setOf([part]))], size: 1, levels: 1 };
      case "pattern":
        return this.#pattern(part, user);
      case "name":
        return this.#named(part.name, user);
      case "all": {
        const contents = part.parts.map((each) => this.#content(each, user));
        const extent = this.#extentOf(contents, user);
        return { elements: contents.flatMap(({ elements }) => elements), ...extent };
      }
      case "any": {
        const contents = part.parts.map((each) => this.#content(each, user));
        const extent = this.#extentOf(contents, user);
        const alternatives = contents.map(({ elements }) => concatenation(elements));
        return { elements: [{ type: "Alternation", alternatives }], ...extent };
      }
      case "repeat": {
        const { min, max, of } = part;
        const content = this.#content(of, user);
        const extent = this.#extentOf([content], user);
        const alternatives = [concatenation(content.elements)];
        const count = { min, max: max ?? Infinity, lazy: false };
        return { elements: [{ type: "Quantifier", alternatives, ...count }], ...extent };
      }
    }
  }

  #pattern(part: LarkPart & { readonly kind: "pattern" }, user: string): Content {
    const path = this.#pathOf(user);
    const spend = (length: number) =>
      this.#rules.spend(PARSE_STEPS * Math.min(length, LIMITS.regexCharsMax), path);
    spend(part.source.length);
    const { source, flags } = larkPattern(part.source, part.flags, path);
    // A dot is written as a set.
    spend(Math.max(0, source.length - part.source.length));
    const { alternatives } = parsePattern(source, path, flags);
    const extent = { size: 1 + source.length, levels: 1 };
    const [first, ...others] = alternatives;
    if (first && others.length === 0) return { elements: first.elements, ...extent };
    return { elements: [{ type: "Alternation", alternatives: [...alternatives] }], ...extent };
  }

  /** The extent of a part with these contents. Counts the steps of copying them. */
  #extentOf(contents: readonly Content[], user: string): Extent {
    let [size, levels] = [1, 1];
    for (const content of contents) {
      size += content.size;
      levels = Math.max(levels, 1 + content.levels);
    }
    const path = this.#pathOf(user);
    if (size > LIMITS.grammarStepsMax) {
      throw new GrammarError(path, "is too large with the terminals that it uses");
    }
    if (levels > LEVELS_MAX) throw this.#tooDeep(user);
    this.#rules.spend(size >>> 3, path);
    return { size, levels };
  }

  #tooDeep(user: string): GrammarError {
    return new GrammarError(
      this.#pathOf(user),
      `is nested too deep with the terminals that it uses: at most ${LEVELS_MAX} parts within each other`,
    );
  }

  /** @param name of a rule or a terminal; empty for what is ignored */
  #pathOf(name: string): Path {
    const path = this.#paths.get(name) ?? (name === "" ? this.#path : [...this.#path, name]);
    this.#paths.set(name, path);
    return path;
  }

  #named(name: string, user: string): Content {
    const at = this.#pathOf(user);
    const known = this.#known.get(name);
    if (known) return known;
    if (known === null) {
      throw new GrammarError(at, `uses the terminal ${shortName(name)}, which refers to itself`);
    }
    const definition = this.#definitions.get(name);
    if (definition === undefined) {
      throw new GrammarError(
        at,
        `uses ${isTerminal(name) ? "the terminal" : "the rule"} ${shortName(name)}, which the grammar does not define`,
      );
    }
    if (!isTerminal(name)) {
      throw new GrammarError(at, `uses the rule ${shortName(name)}, but a terminal has no rules`);
    }
    this.#known.set(name, null);
    const content = this.#content(definition, name);
    this.#known.set(name, content);
    return content;
  }
}

function concatenation(elements: Content["elements"]): NoParent<Concatenation> {
  return { type: "Concatenation", elements: [...elements] };
}

function characterClass(characters: CharSet): NoParent<Element> {
  return { type: "CharacterClass", characters };
}

/** One character, or its small and capital letter. */
function oneOf(character: string, isCaseIgnored: boolean): NoParent<Element> {
  const spellings = isCaseIgnored
    ? [character, character.toLowerCase(), character.toUpperCase()]
    : [character];
  const codes = spellings
    .filter((spelling) => Array.from(spelling).length === 1)
    .map((spelling) => spelling.codePointAt(0)!);
  return characterClass(setOf(codes.map((code) => ({ min: code, max: code }))));
}

/** Whether an assertion is about what stands before or after the alternatives, such as ^, $, and \b at their edges. */
function looksOutside(alternatives: Alternatives, isStart: boolean, isEnd: boolean): boolean {
  return alternatives.some(({ elements }) => {
    const firstFull = elements.findIndex((element) => !canBeEmpty(element));
    const lastFull = elements.findLastIndex((element) => !canBeEmpty(element));
    return elements.some((element, i) => {
      const start = isStart && (firstFull < 0 || i <= firstFull);
      const end = isEnd && i >= lastFull;
      if (element.type === "Assertion") return element.kind === "behind" ? start : end;
      return "alternatives" in element && looksOutside(element.alternatives, start, end);
    });
  });
}

function canBeEmpty(element: PatternNode): boolean {
  if (element.type === "CharacterClass") return false;
  if (element.type === "Quantifier" && element.min === 0) return true;
  if (element.type !== "Quantifier" && element.type !== "Alternation") return true;
  const known = emptiness.get(element);
  if (known !== undefined) return known;
  const isEmpty = element.alternatives.some(({ elements }) => elements.every(canBeEmpty));
  emptiness.set(element, isEmpty);
  return isEmpty;
}

/** `looksOutside` asks for each level of a part, and copies of a terminal share their parts. */
const emptiness = new WeakMap<PatternNode, boolean>();

/** Whether a repetition ends as soon as what follows it matches. */
function hasLazy(alternatives: Alternatives): boolean {
  return alternatives.some(({ elements }) =>
    elements.some(
      (element) =>
        (element.type === "Quantifier" && element.lazy) ||
        ("alternatives" in element && hasLazy(element.alternatives)),
    ),
  );
}
