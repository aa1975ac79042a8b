/** Response formats over the demo models' tokens, and texts that keep to them. */
import { grammarOf } from "../../shared/grammar/format.ts";
import type { ResponseFormat } from "../../shared/contract.ts";
import { GumbelNoise } from "../../worker/decode/noise.ts";
import { Matcher, type Position } from "../../worker/grammar/matcher.ts";
import { TokenTrie } from "../../worker/grammar/token-trie.ts";
import { DEMO_MODEL } from "./tokenizers.ts";
import { ModelTokenizer } from "../../worker/model/tokenizer.ts";

export const demoTokenizer = new ModelTokenizer(DEMO_MODEL, {});
export const demoTokens = Array.from({ length: demoTokenizer.vocab.size }, (_, id) =>
  demoTokenizer.bytesOf(id),
);
export const demoTrie = new TokenTrie(demoTokens);

export const schemaFormat = (schema: object): ResponseFormat => ({
  type: "json_schema",
  json_schema: { name: "test", schema: { ...schema } },
});

export function matcherOf(format: ResponseFormat, trie = demoTrie): Matcher {
  return new Matcher(grammarOf(format)!, trie);
}

/** The position after a text, or null if the grammar does not let it come so far. */
export function positionAfter(matcher: Matcher, text: string | Uint8Array): Position | null {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  let position: Position | null = matcher.start;
  for (const byte of bytes) position = position?.after(byte) ?? null;
  return position;
}

export const accepts = (matcher: Matcher, text: string) =>
  positionAfter(matcher, text)?.canEnd ?? false;

export function allowedAt({ mask }: Position, vocabSize = demoTokens.length): number[] {
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  return ids.filter((id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
}

/** Any text of the grammar, token by token; null if it has not come to its end after so many. */
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
    // What is long by then is brought to its end, where a single character can.
    const closing = ids.filter((id) => /^["}\]]$/.test(demoTokenizer.textOf(id).token));
    const among = at > 20 && closing.length > 0 && noise.at(0) > 0 ? closing : ids;
    const id = among.reduce((best, id) => (noise.at(id) > noise.at(best) ? id : best));
    bytes.push(...demoTokens[id]!);
    for (const byte of demoTokens[id]!) position = position.after(byte)!;
  }
  return null;
}
