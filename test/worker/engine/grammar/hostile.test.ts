/** Formats that are accepted and made to cost much while tokens are generated. Counts instead of times: they are the same everywhere. */
import { describe, expect, test, vi } from "vitest";
import { compileGrammar } from "../../../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../../../shared/grammar/format.ts";
import type { ResponseFormat } from "../../../../shared/api/response-formats.ts";
import { GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import { GrammarConstraint } from "../../../../worker/engine/grammar/constraint.ts";
import { allowedAt, demoTokens, matcherOf, schemaFormat } from "../../../support/grammar.ts";

const regex = (pattern: string): ResponseFormat => ({ type: "regex", pattern });
const TOKENS = 300;
/** A deterministic automaton of a grammar has about as many states as its expression has parts, if nothing is ambiguous. */
const STATES_MAX = 15_000;

describe("masks are shared, and no token fails, over random texts of", () => {
  test.each<[name: string, format: ResponseFormat, masksMax: number]>([
    ["a string with a huge limit", schemaFormat({ type: "string", maxLength: 65_535 }), 30],
    ["any characters, counted", regex("[^]{0,5000}"), 30],
    ["words, counted", regex("([a-z]+ ){1,900}"), 20],
    ["letters of all languages", regex("(\\p{L}+[ ,]){1,900}"), 40],
    ["optional letters", regex("[a-z ]?".repeat(100)), 100],
    ["repetitions within repetitions", regex("(([a-z]{1,9},){1,9};){1,99}"), 300],
    [
      "lists within lists",
      schemaFormat({
        type: "array",
        maxItems: 99,
        items: { type: "array", maxItems: 99, items: { type: "string", maxLength: 99 } },
      }),
      150,
    ],
    ["JSON objects", { type: "json_object" }, 150],
  ])("%s", (_name, format, masksMax) => {
    const { accepting } = compileGrammar(compileResponseFormat(format)!);
    expect(accepting.length).toBeLessThan(STATES_MAX);
    const matcher = matcherOf(format);
    const computed = vi.spyOn(matcher.trie, "maskAt");
    const constraint = new GrammarConstraint(matcher, new Set([0]));
    const noise = new GumbelNoise(1);
    let position = matcher.start;
    for (let at = 0; at < TOKENS && !constraint.isComplete; at++) {
      noise.seek(at);
      const ids = allowedAt(position);
      const id = ids.reduce((best, id) => (noise.at(id) > noise.at(best) ? id : best));
      constraint.accept(id);
      for (const byte of demoTokens[id]!) position = position.advance(byte)!;
    }
    expect(computed.mock.calls.length).toBeLessThan(masksMax);
    computed.mockRestore();
  });
});
