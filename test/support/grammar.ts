/** Response formats over the demo models' tokens, and texts that match them. */
import { compileGrammar } from "../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../shared/grammar/format.ts";
import type { Grammar } from "../../shared/grammar/rules/grammar.ts";
import type { ResponseFormat } from "../../shared/api/response-formats.ts";
import { GumbelNoise } from "../../worker/engine/decode/noise.ts";
import { Matcher, type GrammarPosition } from "../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../worker/engine/grammar/token-trie.ts";
import { DEMO_MODEL } from "./demo-model.ts";
import { ModelTokenizer } from "../../worker/engine/model/tokenizer.ts";

const demoTokenizer = new ModelTokenizer(DEMO_MODEL, {});
export const demoTokens = Array.from({ length: demoTokenizer.vocab.size }, (_, id) =>
  demoTokenizer.tokenBytes(id),
);
const demoTrie = new TokenTrie(demoTokens);

export const schemaFormat = (schema: object): ResponseFormat => ({
  type: "json_schema",
  json_schema: { name: "test", schema: { ...schema } },
});

export function matcherOf(format: ResponseFormat, trie = demoTrie): Matcher {
  return grammarMatcher(compileResponseFormat(format)!, trie);
}

export function grammarMatcher(grammar: Grammar, trie = demoTrie): Matcher {
  return new Matcher(compileGrammar(grammar), trie);
}

/** The position after a text, or null if the grammar does not allow the text. */
export function positionAfter(matcher: Matcher, text: string | Uint8Array): GrammarPosition | null {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  let position: GrammarPosition | null = matcher.start;
  for (const byte of bytes) position = position?.advance(byte) ?? null;
  return position;
}

export const accepts = (matcher: Matcher, text: string) =>
  positionAfter(matcher, text)?.canEnd ?? false;

export function allowedAt({ mask }: GrammarPosition, vocabSize = demoTokens.length): number[] {
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  return ids.filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
}

/** A random text of the grammar, token by token; null if it is not complete after `tokensMax` tokens. */
export function anyText(matcher: Matcher, seed: number, tokensMax = 200): string | null {
  const noise = new GumbelNoise(seed);
  const bytes: number[] = [];
  let position = matcher.start;
  for (let at = 0; at < tokensMax; at++) {
    noise.seek(at);
    const ids = allowedAt(position);
    const isEnough = at > 20 || noise.at(demoTokens.length) > 0;
    if (position.canEnd && (isEnough || ids.length === 0)) {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        Uint8Array.from(bytes),
      );
    }
    // A long text is closed soon: tokens that close a string, array or object are preferred.
    const closing = ids.filter((id) => /^["}\]]$/.test(demoTokenizer.tokenText(id).token));
    const among = at > 20 && closing.length > 0 && noise.at(0) > 0 ? closing : ids;
    const id = among.reduce((best, id) => (noise.at(id) > noise.at(best) ? id : best));
    bytes.push(...demoTokens[id]!);
    for (const byte of demoTokens[id]!) position = position.advance(byte)!;
  }
  return null;
}
