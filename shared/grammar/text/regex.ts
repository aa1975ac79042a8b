/**
 * Compiles JavaScript regular expressions (flag u) to grammars. A pattern without assertions becomes an expression of the same form;
 * others become automata. Back references and most lookaround are not supported.
 */
import type { CharSet } from "refa";
import { LIMITS } from "../../api/limits.ts";
import { choice, repeat, sequence, type Rules } from "../rules/expressions.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { characters, type Alphabet } from "./characters.ts";
import { meterOf, type Meter } from "./meter.ts";
import {
  besideOf,
  isAnchor,
  parsePattern,
  type Alternatives,
  type Pattern,
  type PatternNode,
} from "./pattern.ts";
import { textDfa, type TextDfa } from "./text-dfa.ts";
import { textNfa, unsupportedAssertion } from "./text-nfa.ts";
import { intersection, union } from "./text-product.ts";
import { textOfLength } from "./text-rules.ts";

/** Steps that parsing one character of a pattern counts as. */
export const PARSE_STEPS = 16;
/** Steps of writing one range of characters as bytes. */
const RANGE_STEPS = 16;
/** A set with more ranges of characters becomes a rule, which all its occurrences share. */
const INLINE_RANGES_MAX = 8;

/** Options of compiling a pattern. */
export interface RegexOptions {
  /** How characters are written: PLAIN or IN_JSON. */
  readonly alphabet: Alphabet;
  readonly rules: Rules;
  /** Keys from the top of the format to the pattern. */
  readonly path: Path;
}

/**
 * The expression of a pattern that must match a text as a whole.
 * @throws GrammarError for a syntax error, for syntax that is not supported, and if the budget is exceeded
 */
export function regexExpression(source: string, options: RegexOptions): Expression {
  return Regex.parse(source, options.rules, options.path).whole(options.alphabet);
}

/** A parsed pattern. */
export class Regex {
  readonly meter: Meter;
  readonly #rules: Rules;
  readonly #alphabet: CharSet;
  readonly #alternatives: Alternatives;
  readonly #branches: readonly Branch[];

  /** @throws GrammarError */
  static parse(source: string, rules: Rules, path: Path): Regex {
    const steps = PARSE_STEPS * Math.min(source.length, LIMITS.regexCharsMax);
    meterOf(rules, path).spend(steps);
    return new Regex(parsePattern(source, path), rules, path);
  }

  /** @throws GrammarError */
  constructor({ alternatives, alphabet }: Pattern, rules: Rules, path: Path) {
    this.meter = meterOf(rules, path);
    this.#rules = rules;
    if (alternatives.length === 0) throw new GrammarError(path, "matches no text");
    this.#alternatives = alternatives;
    this.#alphabet = alphabet;
    this.#branches = alternatives.map(({ elements }) => branchOf(elements));
  }

  /**
   * The texts that the pattern matches as a whole.
   * @param options.isShortest leaves out texts that begin with another one
   * @throws GrammarError
   */
  whole(alphabet: Alphabet, { isShortest = false } = {}): Expression {
    const direct = isShortest ? null : this.expression(alphabet, "whole");
    if (direct !== null) return direct;
    const { states } = this.dfa("whole");
    if (!states.some(({ outcome }) => outcome > 0)) {
      throw new GrammarError(this.meter.path, "matches no text");
    }
    const ended = states.map((state) => (state.outcome > 0 ? { ...state, edges: [] } : state));
    const dfa = { states: isShortest ? ended : states };
    const lengths = { min: 0, max: null };
    return textOfLength(dfa, lengths, alphabet, { rules: this.#rules, meter: this.meter });
  }

  /**
   * The texts as an expression of the same form as the pattern.
   * @returns null if the pattern has assertions, or may match anywhere in the text
   */
  expression(alphabet: Alphabet, match: "whole" | "anywhere"): Expression | null {
    const isWhole = (open: Open) => match === "whole" || (!open.before && !open.after);
    const inner = this.#branches.map(({ elements }) => ({ elements }));
    const isPlain = inner.every(({ elements }) => !elements.some(hasAssertion));
    if (!isPlain || !this.#branches.every(({ open }) => isWhole(open))) return null;
    return new RegexGrammar(alphabet, this.#rules, this.meter).alternatives(inner);
  }

  /** The set and the counts of a pattern such as ^[a-z]{2,5}$; null for others. */
  get counted(): { readonly set: CharSet; readonly min: number; readonly max: number } | null {
    const [{ elements, open }, ...others] = this.#branches as [Branch, ...Branch[]];
    const [element, ...after] = elements;
    if (open.before || open.after || others.length + after.length > 0) return null;
    if (element?.type !== "Quantifier" || element.alternatives.length !== 1) return null;
    const [content, ...rest] = element.alternatives[0]!.elements;
    if (content?.type !== "CharacterClass" || rest.length > 0) return null;
    return { set: characters(content.characters), min: element.min, max: element.max };
  }

  /**
   * The automaton of the texts.
   * @param isExact whether it must have all texts: a pattern with lookaheads and without ^ then is an error
   * @throws GrammarError
   */
  dfa(match: "whole" | "anywhere", isExact = false): TextDfa {
    const closed = { before: false, after: false };
    const needsParts = this.#branches.some(({ elements }) =>
      elements.some((element) => isLong(element)),
    );
    if (needsParts) {
      const dfas = this.#branches.map(({ elements, open }) =>
        this.#branch(elements, match === "whole" ? closed : open, isExact),
      );
      return union(dfas, this.meter);
    }
    const open = { before: match === "anywhere", after: match === "anywhere" };
    return textDfa(textNfa(this.#alternatives, this.#alphabet, open, this.meter), this.meter);
  }

  /** One alternative. Its lookarounds at the start and at the end are conditions on the whole text. */
  #branch(all: readonly PatternNode[], { before, after }: Open, isExact: boolean): TextDfa {
    // Conditions on one character stay where they are.
    const start = all.findIndex((element) => !isLookaround(element, "ahead"));
    const first = start < 0 ? all : all.slice(0, start);
    const elements = all.filter((element, i) => i >= first.length || !isLong(element));
    const texts = { positive: [] as TextDfa[], negative: [] as TextDfa[] };
    const open = { before, after };
    for (const element of first) {
      if (!isLong(element)) continue;
      // Without ^, the text may match later, too. Only texts that match from their start are kept.
      if (open.before && isExact) throw unsupportedAssertion(this.meter);
      open.before = false;
      this.#constrain(element, { before: false, after: true }, texts);
    }
    while (!open.after && isLong(elements.at(-1), "behind")) {
      this.#constrain(elements.pop()!, { before: true, after: false }, texts);
    }
    const nfa = textNfa([{ elements }], this.#alphabet, open, this.meter);
    texts.positive.unshift(textDfa(nfa, this.meter));
    return intersection(texts.positive, texts.negative, this.meter);
  }

  #constrain(
    element: PatternNode,
    anywhere: Open,
    texts: { readonly positive: TextDfa[]; readonly negative: TextDfa[] },
  ): void {
    if (element.type !== "Assertion") throw new Error("Expected an assertion");
    const nfa = textNfa(element.alternatives, this.#alphabet, anywhere, this.meter);
    texts[element.negate ? "negative" : "positive"].push(textDfa(nfa, this.meter));
  }
}

/** On which sides of a match other characters may be. */
interface Open {
  readonly before: boolean;
  readonly after: boolean;
}

/** An alternative of a pattern, without ^ and $ around it. */
interface Branch {
  readonly elements: readonly PatternNode[];
  readonly open: Open;
}

function branchOf(elements: readonly PatternNode[]): Branch {
  const start = elements.findIndex((element) => isAnchor(element, "before"));
  const isStart = start >= 0 && elements.slice(0, start).every((element) => isLookaround(element));
  const isEnd = isAnchor(elements.at(-1), "after");
  const inner = elements.slice(0, isEnd ? -1 : undefined);
  return {
    elements: inner.filter((_, i) => !isStart || i !== start),
    open: { before: !isStart, after: !isEnd },
  };
}

/** Whether an element is a lookaround, of any or of one kind. */
function isLookaround(element: PatternNode | undefined, kind?: "ahead" | "behind"): boolean {
  return element?.type === "Assertion" && (kind === undefined || element.kind === kind);
}

/** Whether an element is a lookaround of more than one character. */
const isLong = (element: PatternNode | undefined, kind?: "ahead" | "behind") =>
  element !== undefined && isLookaround(element, kind) && besideOf(element) === null;

function hasAssertion(element: PatternNode): boolean {
  if (element.type === "Assertion") return true;
  if (element.type !== "Alternation" && element.type !== "Quantifier") return false;
  return element.alternatives.some(({ elements }) => elements.some(hasAssertion));
}

class RegexGrammar {
  readonly #alphabet: Alphabet;
  readonly #rules: Rules;
  readonly #meter: Meter;
  /** By the characters: most patterns repeat a few sets. */
  readonly #sets = new Map<string, Expression>();

  constructor(alphabet: Alphabet, rules: Rules, meter: Meter) {
    this.#alphabet = alphabet;
    this.#rules = rules;
    this.#meter = meter;
  }

  alternatives(alternatives: Alternatives): Expression {
    this.#meter.spend(1 + alternatives.length);
    // Alternatives of one character each are one set: as separate ones they would have common first bytes.
    const single: CharSet[] = [];
    const parts: Expression[] = [];
    for (const { elements } of alternatives) {
      const [element] = elements;
      if (elements.length === 1 && element?.type === "CharacterClass") {
        single.push(element.characters);
      } else parts.push(sequence(...elements.map((element) => this.#element(element))));
    }
    const [first, ...others] = single;
    if (!first) return choice(parts);
    const set = others.length > 0 ? first.union(...others) : first;
    return choice([this.#characters(set), ...parts]);
  }

  #element(element: PatternNode): Expression {
    this.#meter.spend(1);
    if (element.type === "CharacterClass") return this.#characters(element.characters);
    if (element.type === "Alternation") return this.alternatives(element.alternatives);
    if (element.type === "Quantifier") {
      const max = Number.isFinite(element.max) ? element.max : null;
      return repeat(this.alternatives(element.alternatives), element.min, max);
    }
    throw new Error(`Unexpected ${element.type} in a parsed pattern`);
  }

  #characters(set: CharSet): Expression {
    const { length } = set.ranges;
    this.#meter.spend(1 + (length >>> 2));
    const key = set.ranges.map(({ min, max }) => `${min}-${max}`).join();
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    this.#meter.spend(RANGE_STEPS * length);
    const expression = this.#alphabet(characters(set));
    if (expression === null) {
      throw new GrammarError(this.#meter.path, "needs a character that cannot occur in text");
    }
    const isLarge = length > INLINE_RANGES_MAX && typeof expression === "object";
    const shared = isLarge ? this.#rules.add(expression, this.#meter.path) : expression;
    this.#sets.set(key, shared);
    return shared;
  }
}
