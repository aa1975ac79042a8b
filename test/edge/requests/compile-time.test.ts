import { expect, test } from "vitest";
import { CompileTime } from "../../../edge/requests/compile-time.ts";

test("a tenant that uses up its share of the time gets 429, and others do not", () => {
  let nowMs = 0;
  const compileTime = new CompileTime(() => nowMs);
  const compile = (tenant: string, ms: number) =>
    compileTime.spend(tenant, () => {
      nowMs += ms;
      return "grammar";
    });
  const refused = expect.objectContaining({
    code: "rate_limit_exceeded",
    param: "response_format",
  });
  for (let i = 0; i < 7; i++) expect(compile("a", 150)).toBe("grammar");
  expect(() => compile("a", 150)).toThrow(refused);
  expect(compile("b", 150)).toBe("grammar");
  // A refused format costs the same time.
  const fail = () =>
    compileTime.spend("b", () => {
      nowMs += 900;
      throw new Error("refused");
    });
  expect(fail).toThrow("refused");
  expect(() => compile("b", 1)).toThrow(refused);
  nowMs += 4_000;
  expect(compile("b", 1)).toBe("grammar");
});
