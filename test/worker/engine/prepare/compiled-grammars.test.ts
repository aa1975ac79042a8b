/** Grammars on their way to the engine thread. */
import { expect, test } from "vitest";
import type { Grammar } from "../../../../shared/grammar/rules/grammar.ts";
import { CompiledGrammars } from "../../../../worker/engine/prepare/compiled-grammars.ts";

test("equal grammars are compiled once, and can be sent to another thread", () => {
  const grammars = new CompiledGrammars();
  const [first, equal, other] = ["a", "a", "b"].map((text) =>
    grammars.get(JSON.stringify({ rules: [text] })),
  );
  expect(equal).toBe(first);
  expect(other!.hash).not.toBe(first!.hash);
  expect(structuredClone(first)).toEqual(first);
});

test("a stored grammar that costs too much fails before the first token", () => {
  const part = { any: [{ byte: [[97, 98]] }, { byte: [[98, 99]] }] } as const;
  const inner = { of: part, min: 0, max: 99 };
  const costly: Grammar = {
    rules: [{ of: { any: [inner, { all: [inner, "b"] }] }, min: 0, max: 99 }],
  };
  expect(() => new CompiledGrammars().get(JSON.stringify(costly))).toThrow(
    expect.objectContaining({ code: "invalid_request", param: "response_format" }),
  );
});
