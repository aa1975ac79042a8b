/**
 * The patterns of an adapter's configuration, which give modules other ranks and alphas. A pattern is a regular expression that
 * matches a module's path from its beginning or behind a dot, up to its end. It runs as an automaton: patterns such as `((.*)*)*z`
 * take time that grows with the length of a path and not exponentially.
 */
import { NFA, TooManyNodesError, Words } from "refa";
import { isAnchor, parsePattern, type Pattern } from "../../../shared/grammar/text/pattern.ts";

/** Of one automaton. With this limit and the next one the patterns need seconds at most for all modules of a model. */
const NODES_MAX = 200;
const AUTOMATA_MAX = 100;

/** Patterns without groups and with at most two repetitions, as most are: the engine's own matching is fast enough for them. */
const SIMPLE = /^(?:(?:[\w.]|\\[.d])[*+]?)*$/;
const isSimple = (source: string) =>
  SIMPLE.test(source) && source.replaceAll(/[^*+]/g, "").length <= 2;

interface ModulePattern {
  readonly value: number;
  readonly matches: (path: string) => boolean;
}
export type ModulePatterns = readonly ModulePattern[];

/** @throws Error that continues a sentence: the pattern that is not supported, and the reason */
export function modulePatterns(values: Readonly<Record<string, number>>): ModulePatterns {
  const entries = Object.entries(values);
  const automata = entries.filter(([source]) => !isSimple(source)).length;
  if (automata > AUTOMATA_MAX) {
    throw new Error(`has ${automata} patterns with groups or sets, more than ${AUTOMATA_MAX}`);
  }
  return entries.map(([source, value]) => {
    try {
      return { value, matches: matcherOf(source) };
    } catch (error) {
      throw new Error(
        `has the pattern ${JSON.stringify(source)}, which ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
  });
}

/** The value of the first pattern that matches a path. */
export function valueFor(patterns: ModulePatterns, path: string): number | undefined {
  return patterns.find(({ matches }) => matches(path))?.value;
}

function matcherOf(source: string): ModulePattern["matches"] {
  if (isSimple(source)) {
    const end = new RegExp(`(^|\\.)${source}$`);
    return (path) => end.test(path);
  }
  const { alternatives, alphabet } = parsePattern(source, [], "u");
  const parts = alternatives.map((alternative) => anchoredPart(alternative, alphabet));
  return (path) => {
    const characters = Words.fromStringToUnicode(path);
    const starts = [0, ...Array.from(path.matchAll(/\./g), ({ index }) => index + 1)];
    return parts.some(({ isAnchored, nfa }) =>
      (isAnchored ? [0] : starts).some((start) => nfa.test(characters.slice(start))),
    );
  };
}

/** `^` at the beginning binds a pattern to the beginning of paths; `$` at the end changes nothing. */
function anchoredPart(
  { elements, ...rest }: Pattern["alternatives"][number],
  alphabet: Pattern["alphabet"],
) {
  const isAnchored = isAnchor(elements[0], "before");
  const isClosed = isAnchor(elements.at(-1), "after");
  const own = elements.slice(isAnchored ? 1 : 0, isClosed ? -1 : undefined);
  return { isAnchored, nfa: automatonOf({ ...rest, elements: own }, alphabet) };
}

function automatonOf(
  alternative: Pattern["alternatives"][number],
  { maximum }: Pattern["alphabet"],
): NFA {
  const factory = new NFA.LimitedNodeFactory(NODES_MAX);
  try {
    return NFA.fromRegex([alternative], { maxCharacter: maximum }, {}, factory);
  } catch (error) {
    const problem =
      error instanceof TooManyNodesError
        ? "is too large: use fewer repetitions"
        : "has assertions within it: they are not supported";
    throw new Error(problem, { cause: error });
  }
}
