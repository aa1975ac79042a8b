/** The grammars of one vocabulary: what is worked out of one is kept for its next output. */
import type { Grammar } from "../../shared/grammar.ts";
import { GrammarConstraint } from "./constraint.ts";
import { Matcher } from "./matcher.ts";
import { TokenTrie } from "./token-trie.ts";

/** Grammars kept, the latest used. */
const GRAMMARS_MAX = 16;

export class Grammars {
  readonly #readTokens: () => readonly (Uint8Array | null)[];
  readonly #matchers = new Map<string, Matcher>();
  #trie: TokenTrie | null = null;

  /** @param readTokens bytes by id; null for those that are not text, which never come out */
  constructor(readTokens: () => readonly (Uint8Array | null)[]) {
    this.#readTokens = readTokens;
  }

  /** For one output. @throws AppError invalid_request */
  constraint(grammar: Grammar, eosIds: ReadonlySet<number>): GrammarConstraint {
    const key = JSON.stringify(grammar);
    // Not before it is needed: 128,000 tokens take a good part of a second.
    this.#trie ??= new TokenTrie(this.#readTokens());
    const matcher = this.#matchers.get(key) ?? new Matcher(grammar, this.#trie);
    this.#matchers.delete(key);
    this.#matchers.set(key, matcher);
    const [oldest] = this.#matchers.keys();
    if (this.#matchers.size > GRAMMARS_MAX) this.#matchers.delete(oldest!);
    return new GrammarConstraint(matcher, eosIds);
  }
}
