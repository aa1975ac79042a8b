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

/** What a terminal becomes in a pattern, and how many nodes that takes with all copies of other terminals. */
interface Content {
  readonly elements: readonly NoParent<Element>[];
  readonly size: number;
}

export class LarkTerminals {
  readonly #definitions: LarkGrammar["definitions"];
  readonly #rules: Rules;
  readonly #path: Path;
  /** By name; null while it is read. */
  readonly #known = new Map<string, Content | null>();
  readonly #compiledByName = new Map<string, Expression>();

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
    const path = [...this.#path, ...(name === "" ? [] : [name])];
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
    switch (part.kind) {
      case "text": {
        const elements = Array.from(part.text, (character) => oneOf(character, part.isCaseIgnored));
        return { elements, size: 1 + elements.length };
      }
      case "range":
        return { elements: [characterClass(setOf([part]))], size: 1 };
      case "pattern": {
        const path = [...this.#path, ...(user === "" ? [] : [user])];
        const { source, flags } = larkPattern(part.source, part.flags, path);
        this.#rules.spend(PARSE_STEPS * Math.min(source.length, LIMITS.regexCharsMax), path);
        const { alternatives } = parsePattern(source, path, flags);
        const size = 1 + source.length;
        const [first, ...others] = alternatives;
        if (first && others.length === 0) return { elements: first.elements, size };
        return { elements: [{ type: "Alternation", alternatives: [...alternatives] }], size };
      }
      case "name":
        return this.#named(part.name, user);
      case "all":
        return joined(part.parts.map((each) => this.#content(each, user)));
      case "any": {
        const options = part.parts.map((each) => this.#content(each, user));
        const alternatives = options.map(({ elements }) => concatenation(elements));
        return { elements: [{ type: "Alternation", alternatives }], size: sizeOf(options) };
      }
      case "repeat": {
        const { min, max, of } = part;
        const { elements, size } = this.#content(of, user);
        const alternatives = [concatenation(elements)];
        const count = { min, max: max ?? Infinity, lazy: false };
        return { elements: [{ type: "Quantifier", alternatives, ...count }], size: 1 + size };
      }
    }
  }

  #named(name: string, user: string): Content {
    const at = [...this.#path, user];
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
    if (content.size > LIMITS.grammarStepsMax) {
      throw new GrammarError([...this.#path, name], "is too large with the terminals that it uses");
    }
    this.#rules.spend(content.size >>> 3, [...this.#path, name]);
    this.#known.set(name, content);
    return content;
  }
}

const sizeOf = (contents: readonly Content[]) => contents.reduce((sum, { size }) => sum + size, 1);

function joined(contents: readonly Content[]): Content {
  return { elements: contents.flatMap(({ elements }) => elements), size: sizeOf(contents) };
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
  return element.alternatives.some(({ elements }) => elements.every(canBeEmpty));
}

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
