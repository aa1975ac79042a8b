/** Reads the patterns of JSON Schemas: JavaScript regular expressions that match anywhere in a text. */
import {
  JS,
  TooManyNodesError,
  type CharSet,
  type Concatenation,
  type NoParent,
  type Node,
} from "refa";
import { LIMITS } from "../../api/limits.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { ANY_CHARACTER, characters, NO_CHARACTER } from "./characters.ts";

export type PatternNode = NoParent<Node>;
export type Alternatives = readonly { readonly elements: readonly PatternNode[] }[];

/** A parsed pattern. */
export interface Pattern {
  readonly alternatives: readonly NoParent<Concatenation>[];
  /** All characters that the pattern knows: without the flag `u`, only those of one UTF-16 unit. */
  readonly alphabet: CharSet;
}

/**
 * @param known the flags; by default u, or none for a pattern that has an error only with it, such as `\-` outside of a set
 * @throws GrammarError for a syntax error, back references, and a pattern that is too large
 */
export function parsePattern(source: string, path: Path, known?: string): Pattern {
  if (source.length > LIMITS.regexCharsMax) {
    throw new GrammarError(path, `must be at most ${LIMITS.regexCharsMax} characters`);
  }
  if (groupDepth(source) > LIMITS.regexDepthMax) {
    const message = `is nested too deep: at most ${LIMITS.regexDepthMax} groups within each other`;
    throw new GrammarError(path, message);
  }
  if (countMax(source) > LIMITS.grammarRepetitionsMax) {
    const message = `repeats a part more than ${LIMITS.grammarRepetitionsMax} times`;
    throw new GrammarError(path, message);
  }
  const flags = flagsOf(source, path, known);
  try {
    const parser = JS.Parser.fromLiteral({ source, flags });
    const { expression, maxCharacter } = parser.parse({
      backreferences: "throw",
      maxBackreferenceWords: 0,
      assertions: "parse",
    });
    const alphabet = maxCharacter > 0xffff ? ANY_CHARACTER : ANY_CHARACTER.without(ASTRAL);
    return { alternatives: expression.alternatives, alphabet };
  } catch (error) {
    if (error instanceof TooManyNodesError) {
      throw new GrammarError(path, "is too large: use fewer groups and alternatives");
    }
    const problem =
      error instanceof SyntaxError
        ? "has syntax that is not supported, such as flags for a group: (?i:…)"
        : "has back references, which are not supported";
    throw new GrammarError(path, problem, { unsupported: true });
  }
}

const ASTRAL = { min: 0x10000, max: 0x10ffff };

/** Escape sequences that mean something else without the flag `u`. */
const ONLY_UNICODE = /^(?:[^\\]|\\(?!p|P|k|u\{)[^])*\\(?:p|P|k|u\{)/u;

function flagsOf(source: string, path: Path, known: string | undefined): string {
  const problem = problemOf(source, known ?? "u");
  if (problem === null) return known ?? "u";
  const hasFallback = known === undefined && !ONLY_UNICODE.test(source);
  if (hasFallback && problemOf(source, "") === null) return "";
  throw new GrammarError(
    path,
    `must be a regular expression of JavaScript with the flag u: ${problem}`,
  );
}

/** Why a pattern is no regular expression; null if it is one. */
function problemOf(source: string, flags: string): string | null {
  try {
    return new RegExp(source, flags) instanceof RegExp ? null : "";
  } catch (error) {
    // The engine's message repeats the pattern before the reason.
    return (error as Error).message.split(": ").at(-1)!;
  }
}

/** A condition on one character beside a position. */
export interface Beside {
  readonly side: "before" | "after";
  /** The characters that may be there. */
  readonly set: CharSet;
  /** Whether the text may begin (or end) there. */
  readonly mayBeEdge: boolean;
}

/** An assertion about one character, such as ^, $ and the halves of \b; null if it is about more. */
export function besideOf(node: PatternNode): Beside | null {
  if (node.type !== "Assertion") return null;
  let set = NO_CHARACTER;
  for (const { elements } of node.alternatives) {
    const [element] = elements;
    if (elements.length !== 1 || element?.type !== "CharacterClass") return null;
    set = set.union(characters(element.characters));
  }
  const side = node.kind === "ahead" ? "after" : "before";
  return { side, set: node.negate ? ANY_CHARACTER.without(set) : set, mayBeEdge: node.negate };
}

/** Whether a node is ^ or $. */
export function isAnchor(node: PatternNode | undefined, side: Beside["side"]): boolean {
  const beside = node && besideOf(node);
  return beside?.side === side && beside.mayBeEdge && beside.set.without(ASTRAL).isEmpty;
}

/** The largest count of a quantifier such as {2,5}. The parser counts modulo 2 ** 32. */
function countMax(pattern: string): number {
  let isInSet = false;
  let max = 0;
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === "\\") i++;
    else if (isInSet) isInSet = pattern[i] !== "]";
    else if (pattern[i] === "[") isInSet = true;
    else if (pattern[i] === "{") {
      COUNTS.lastIndex = i;
      const [, from = "0", to = "0"] = COUNTS.exec(pattern) ?? [];
      max = Math.max(max, Number(from), Number(to));
    }
  }
  return max;
}

const COUNTS = /\{(\d+)(?:,(\d*))?\}/y;

/** Groups within each other, at most: each opening parenthesis counts until it is closed, whatever it means. */
function groupDepth(pattern: string): number {
  let [depth, deepest] = [0, 0];
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === "\\") i++;
    else if (pattern[i] === "(") deepest = Math.max(deepest, ++depth);
    else if (pattern[i] === ")") depth--;
  }
  return deepest;
}
