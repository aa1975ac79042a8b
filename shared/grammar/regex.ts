/**
 * Regular expressions of JavaScript (flag u) as grammars. The whole text must match, as between ^ and $. Lookaround,
 * word boundaries and back references are beyond a grammar.
 */
import { CharSet, JS, type NoParent, type Node } from "refa";
import type { Expression } from "../grammar.ts";
import { choice, GrammarError, oneOf, repeat, sequence } from "./expressions.ts";

/** Half a surrogate pair is no character of a text. */
const SURROGATES = { min: 0xd800, max: 0xdfff };
/** Characters that a JSON string holds only escaped. */
const ESCAPED = CharSet.empty(0x10ffff).union([
  { min: 0, max: 0x1f },
  { min: 0x22, max: 0x22 },
  { min: 0x5c, max: 0x5c },
]);

/** How a set of characters is written; null if none of them can be. */
type Alphabet = (characters: CharSet) => Expression | null;

/** As text. */
export const PLAIN: Alphabet = (characters) => {
  const { isEmpty, ranges } = characters.without(SURROGATES);
  return isEmpty ? null : oneOf(ranges);
};

/**
 * Within a JSON string. A set that has other characters too goes without those that would be escaped: each would be an
 * alternative of its own.
 */
export const IN_JSON: Alphabet = (characters) => {
  const bare = PLAIN(characters.without(ESCAPED));
  if (bare !== null) return bare;
  const escapes: Expression[] = [];
  for (const { min, max } of characters.intersect(ESCAPED).ranges) {
    for (let code = min; code <= max; code++) {
      escapes.push(JSON.stringify(String.fromCodePoint(code)).slice(1, -1));
    }
  }
  return escapes.length === 0 ? null : choice(escapes);
};

/** @throws GrammarError with an empty path */
export function regexExpression(pattern: string, alphabet: Alphabet): Expression {
  const { alternatives } = parse(withoutAnchors(pattern));
  if (alternatives.length === 0) throw new GrammarError([], "matches no text");
  return alternativesOf(alternatives, alphabet);
}

function parse(source: string) {
  try {
    const parser = JS.Parser.fromLiteral({ source, flags: "u" });
    return parser.parse({ backreferences: "throw", assertions: "throw" }).expression;
  } catch {
    try {
      // eslint-disable-next-line no-new
      new RegExp(source, "u");
    } catch {
      throw new GrammarError([], "must be a regular expression of JavaScript with the flag u");
    }
    const what = "lookaround, word boundaries, inner ^ and $, or back references";
    throw new GrammarError([], `has ${what}, which are not supported`, { unsupported: true });
  }
}

/** The text must match as a whole anyway. */
function withoutAnchors(pattern: string): string {
  const start = pattern.startsWith("^") ? 1 : 0;
  const isEnd = /(?<!\\)(?:\\\\)*\$$/.test(pattern) && pattern.length > start;
  const inner = pattern.slice(start, isEnd ? -1 : undefined);
  return inner;
}

function alternativesOf(
  alternatives: readonly { readonly elements: readonly NoParent<Node>[] }[],
  alphabet: Alphabet,
): Expression {
  return choice(
    alternatives.map(({ elements }) =>
      sequence(...elements.map((element) => elementOf(element, alphabet))),
    ),
  );
}

function elementOf(element: NoParent<Node>, alphabet: Alphabet): Expression {
  if (element.type === "CharacterClass") return charactersOf(element.characters, alphabet);
  if (element.type === "Alternation") return alternativesOf(element.alternatives, alphabet);
  if (element.type === "Quantifier") {
    const max = Number.isFinite(element.max) ? element.max : null;
    return repeat(alternativesOf(element.alternatives, alphabet), element.min, max);
  }
  throw new Error(`the parser was asked to leave no ${element.type}`);
}

function charactersOf(characters: CharSet, alphabet: Alphabet): Expression {
  const expression = alphabet(characters);
  if (expression !== null) return expression;
  throw new GrammarError([], "asks for characters that no text has");
}
