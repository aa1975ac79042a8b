/** Token masks, compared token by token with a walk of each token from the beginning, over a vocabulary made to be awkward. */
import { expect, test } from "vitest";
import { compileOutputRules } from "../../../../shared/tools/grammar.ts";
import { GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import type { GrammarPosition, Matcher } from "../../../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../../../worker/engine/grammar/token-trie.ts";
import { allowedAt, grammarMatcher, matcherOf, schemaFormat } from "../../../support/grammar.ts";

const WORDS = [
  "the quick brown fox, jumps! (over) 13 lazy dogs; again & again #1 $2 50% x=y ~z * /a/b c:d e@f",
  "AbCdEf GHIJKL a-f 0-9 deadbeef DEADBEEF 2024-02-29 12:30:00Z user_name user.name@example.com https://a.example/b?c=d#e",
  "a\u2028 \u2029中",
  "é à ß ñ 中文 日本語 한국어 😀😀 naïve Ω → « » \u00a0 e\u0301",
  "a".repeat(40),
  "0".repeat(20),
  'city name id "a" \\n \\" {} [] "}, {" ": " null true false -1.5e10 <tool_call> </tool_call> [TOOL_CALLS] <｜tool▁call▁begin｜>',
].flatMap((text) => text.split(/(?<= )|(?= )/));
const encoder = new TextEncoder();
const texts = new Set(
  WORDS.flatMap((word) =>
    Array.from(word, (_, at) => [
      word.slice(at),
      word.slice(0, at + 1),
      ` ${word.slice(at)}`,
    ]).flat(),
  ).map((text) => text.toWellFormed()),
);
const TOKENS = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...Array.from(texts, (text) => encoder.encode(text)),
  // Characters that are cut at either end.
  ...["中文", "é中", "😀a", "a😀"].flatMap((text) => {
    const bytes = encoder.encode(text);
    return Array.from(bytes, (_, at) => [bytes.slice(at), bytes.slice(0, at + 1)]).flat();
  }),
];
const trie = new TokenTrie(TOKENS);

/** Follows each token byte by byte. */
const allowedOneByOne = (position: GrammarPosition) =>
  TOKENS.flatMap((bytes, id) => {
    let at: GrammarPosition | null = position;
    for (const byte of bytes) at = at?.advance(byte) ?? null;
    return at ? [id] : [];
  });

const string = (keywords: object) => matcherOf(schemaFormat({ type: "string", ...keywords }), trie);
const regex = (pattern: string) => matcherOf({ type: "regex", pattern }, trie);
const object = (keywords: object) => matcherOf(schemaFormat({ type: "object", ...keywords }), trie);
const tools = (format: string) =>
  grammarMatcher(
    compileOutputRules({
      tools: { format, functions: [{ name: "f" }], choice: "auto", parallel: true },
    })!,
    trie,
  );

const MATCHERS: Readonly<Record<string, Matcher>> = {
  "any string": string({}),
  "a short string": string({ maxLength: 6 }),
  "a string of a limited length": string({ minLength: 3, maxLength: 30 }),
  "a string longer than any token": string({ maxLength: 90 }),
  "a pattern of some letters": string({ pattern: "^[a-z0-9_-]{2,12}$" }),
  "a string of a few characters": string({ maxLength: 2 }),
  "a search for words": string({ pattern: "normal|bold" }),
  "a search for words in a string of a limited length": string({ pattern: "o", maxLength: 9 }),
  "a pattern of dots": string({ pattern: "^.+@.+$" }),
  "counted dots": string({ pattern: "^.{0,5}$" }),
  "dots that never end": regex(".*"),
  "a pattern of other letters": string({ pattern: "^[A-F0-9 ]*$" }),
  "a pattern with two places": string({ pattern: "^[a-z]+(?:[ .][a-zA-Z]+){0,3}$" }),
  "all but a character": string({ pattern: "^[^x%]*$" }),
  "letters of all languages": regex("(\\p{L}+[ ,]){1,900}"),
  "any characters": regex("[^]{0,9}"),
  "an email": string({ format: "email" }),
  "a URI": string({ format: "uri" }),
  "a time": string({ format: "date-time" }),
  "keys beside declared ones": object({ properties: { city: {}, citizen: {}, c: {} } }),
  "keys of patterns": object({
    patternProperties: { "^[a-z]+$": { type: "integer" }, "^x-": {} },
    additionalProperties: { type: "string", maxLength: 5 },
  }),
  "any JSON": matcherOf({ type: "json_object" }, trie),
  "a text with calls": tools("hermes"),
  "a text with calls whose marker has wide characters": tools("deepseek"),
};

test.each(Object.entries(MATCHERS))(
  "the mask at each place of random texts is exact: %s",
  (_, matcher) => {
    const noise = new GumbelNoise(7);
    for (let text = 0; text < 12; text++) {
      let position = matcher.start;
      for (let at = 0; at < 12; at++) {
        const ids = allowedAt(position, TOKENS.length);
        expect(ids).toEqual(allowedOneByOne(position));
        if (ids.length === 0) break;
        noise.seek(100 * text + at);
        const id = ids.reduce((best, id) => (noise.at(id) > noise.at(best) ? id : best));
        for (const byte of TOKENS[id]!) position = position.advance(byte)!;
      }
    }
  },
);
