/** The patterns of one response format. Each is parsed once, and becomes an automaton once. */
import type { Rules } from "../rules/expressions.ts";
import type { Path } from "../rules/grammar-error.ts";
import { Regex } from "./regex.ts";
import type { TextDfa } from "./text-dfa.ts";

export class Patterns {
  readonly #rules: Rules;
  readonly #regexes = new Map<string, Regex>();
  readonly #dfas = new Map<string, TextDfa>();

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  /** @throws GrammarError */
  regex(source: string, path: Path): Regex {
    const regex = this.#regexes.get(source) ?? Regex.parse(source, this.#rules, path);
    this.#regexes.set(source, regex);
    return regex;
  }

  /**
   * The automaton of the texts in which a pattern matches anywhere.
   * @param isExact whether it must have all of them; else it may leave some out
   * @throws GrammarError
   */
  dfa(source: string, path: Path, isExact: boolean): TextDfa {
    const key = `${Number(isExact)}${source}`;
    const dfa = this.#dfas.get(key) ?? this.regex(source, path).dfa("anywhere", isExact);
    this.#dfas.set(key, dfa);
    return dfa;
  }

  /** Whether a pattern matches anywhere in a text: not by RegExp, which can take forever. @throws GrammarError */
  matches(text: string, source: string, path: Path): boolean {
    const { states } = this.dfa(source, path, true);
    let [at, steps] = [0, 1];
    for (const character of text) {
      const code = character.codePointAt(0)!;
      const { edges } = states[at]!;
      const edge = edges.find(({ set }) => set.has(code));
      steps += 1 + (edges.length >>> 3);
      at = edge?.to ?? -1;
      if (!edge) break;
    }
    this.#rules.spend(steps, path);
    return at >= 0 && states[at]!.outcome > 0;
  }
}
