/**
 * Caches the matchers of a vocabulary's grammars, with the token masks that they have computed. This is the folder's main
 * file. The folder turns compiled grammars (shared/grammar/) into masks over token ids. It knows bytes and tokens, not JSON
 * Schema, models or sampling.
 */
import type { PreparedGrammar } from "../../engine-client/messages.ts";
import { GrammarConstraint } from "./constraint.ts";
import { Matcher } from "./matcher.ts";
import { TokenTrie } from "./token-trie.ts";

/** The cache keeps this many matchers, the most recently used. Each keeps up to 8 MiB of masks. */
const GRAMMARS_MAX = 16;

export class GrammarCache {
  readonly #trie: TokenTrie;
  readonly #matchers = new Map<string, Matcher>();

  /**
   * Builds the trie at once: it takes up to a second for 150,000 tokens, for which no running stream may wait.
   * @param tokens bytes of each token id; null for special tokens and unused ids, which are never allowed
   */
  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.#trie = new TokenTrie(tokens);
  }

  /** Creates the constraint of one output. */
  createConstraint(
    { hash, tables }: PreparedGrammar,
    eosIds: ReadonlySet<number>,
  ): GrammarConstraint {
    const matcher = this.#matchers.get(hash) ?? new Matcher(tables, this.#trie);
    this.#matchers.delete(hash);
    this.#matchers.set(hash, matcher);
    const [oldest] = this.#matchers.keys();
    if (this.#matchers.size > GRAMMARS_MAX) this.#matchers.delete(oldest!);
    return new GrammarConstraint(matcher, eosIds);
  }
}
