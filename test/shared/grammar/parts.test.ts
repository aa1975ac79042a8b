/** Formats are compiled in parts, between which a thread does its other work. Steps are counted, which are the same on every machine. */
import { describe, expect, test, vi } from "vitest";
import { outputRulesParts } from "../../../shared/tools/grammar.ts";
import { Budget } from "../../../shared/grammar/rules/budget.ts";
import { inTurns } from "../../../shared/grammar/rules/parts.ts";
import { compileHere, OutputGrammars } from "../../../shared/submission/output-grammars.ts";
import { AppError } from "../../../shared/api/errors.ts";
import { rememberSource } from "../../../shared/api/json-source.ts";
import type { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { COSTLY_FORMATS } from "../../support/costly-formats.ts";
import { schemaFormat } from "../../support/grammar.ts";

const WIDE = schemaFormat({
  type: "object",
  properties: Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`v${i}`, {}])),
});

test("other work comes between the parts of a compilation", async () => {
  const turns = { count: 0, isOver: false };
  const other = async () => {
    for (; !turns.isOver; turns.count++) {
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  };
  const others = other();
  expect(await inTurns(outputRulesParts({ format: WIDE }))).not.toBeNull();
  turns.isOver = true;
  await others;
  expect(turns.count).toBeGreaterThan(5);
});

const COSTLY = new Map(COSTLY_FORMATS);

test.each([
  "3,000 properties",
  "1,000 properties of different letters",
  "not required",
  "enum within enum",
])("no part takes more than about half of the steps, even if it is made again: %s", (name) => {
  const most = mostSteps(outputRulesParts({ format: COSTLY.get(name)! }));
  expect(most).toBeGreaterThan(1_000);
  expect(most).toBeLessThan(150_000);
});

/** The steps of the most expensive part of a compilation, which may be refused. */
function mostSteps(work: ReturnType<typeof outputRulesParts>): number {
  const spend = Object.getOwnPropertyDescriptor(Budget.prototype, "spend")!;
  let [steps, most] = [0, 0];
  // A spy would keep hundreds of thousands of calls.
  Budget.prototype.spend = function count(...args) {
    most = Math.max(most, (steps += args[0]));
    (spend.value as Budget["spend"]).apply(this, args);
  };
  try {
    for (; work.next().done !== true; steps = 0);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
  } finally {
    Object.defineProperty(Budget.prototype, "spend", spend);
  }
  return most;
}

describe("the latest formats are kept:", () => {
  const setUp = () => {
    const compile = vi.fn(compileHere);
    const grammars = new OutputGrammars();
    return {
      compile,
      get: (tenant: string, format: ResponseFormat) => grammars.get(tenant, { format }, compile),
    };
  };
  const choices = (...values: unknown[]) => schemaFormat({ enum: values });

  test("equal ones of a tenant are compiled once, also if they are refused", async () => {
    const { compile, get } = setUp();
    const first = await get("a", choices(1, 2));
    expect(await get("a", choices(1, 2))).toBe(first);
    expect(compile).toHaveBeenCalledTimes(1);
    expect(await get("a", choices(2, 1))).not.toEqual(first);
    expect(await get("b", choices(1, 2))).toEqual(first);
    expect(compile).toHaveBeenCalledTimes(3);
    const wrong = schemaFormat({ type: "wrong" });
    const refused = expect.objectContaining({ code: "invalid_request" });
    await expect(get("a", wrong)).rejects.toThrow(refused);
    await expect(get("a", wrong)).rejects.toThrow(refused);
    expect(compile).toHaveBeenCalledTimes(4);
  });

  test("numbers that JavaScript would change are not mistaken for each other, and formats with them are kept too", async () => {
    const { compile, get } = setUp();
    const parsed = (text: string) => {
      const value = JSON.parse(text) as object;
      rememberSource(text, value, true);
      return schemaFormat(value);
    };
    const one = await get("a", parsed('{"anyOf": [{"const": 9007199254740993}]}'));
    const other = await get("a", parsed('{"anyOf": [{"const": 9007199254740992}]}'));
    expect(JSON.stringify(one)).toContain("9007199254740993");
    expect(JSON.stringify(other)).toContain("9007199254740992");
    expect(await get("a", parsed('{"anyOf": [{"const": 9007199254740993}]}'))).toBe(one);
    expect(compile).toHaveBeenCalledTimes(2);
  });

  test("the oldest is dropped when all of them are too large", async () => {
    const { compile, get } = setUp();
    const large = (i: number) => schemaFormat({ title: "a".repeat(200_000), const: i });
    for (let i = 0; i < 11; i++) await get("a", large(i));
    await get("a", large(10));
    expect(compile).toHaveBeenCalledTimes(11);
    await get("a", large(0));
    expect(compile).toHaveBeenCalledTimes(12);
  });

  test("small ones and refused ones have a bound too, and each refusal is an error of its own", async () => {
    const grammars = new OutputGrammars();
    const compile = vi.fn(async () => {
      throw new AppError("invalid_request", "wrong", { param: "response_format" });
    });
    const get = (i: number) =>
      grammars.get("a", { format: choices(i) }, compile).catch((error: unknown) => error);
    const first = await get(0);
    const again = await get(0);
    expect(compile).toHaveBeenCalledTimes(1);
    const refusal = { code: "invalid_request", message: "wrong", param: "response_format" };
    expect(first).toMatchObject(refusal);
    expect(again).toMatchObject(refusal);
    expect(again).not.toBe(first);
    for (let i = 1; i < 2_000; i++) await get(i);
    expect(compile).toHaveBeenCalledTimes(2_000);
    await get(1_999);
    expect(compile).toHaveBeenCalledTimes(2_000);
    await get(0);
    expect(compile).toHaveBeenCalledTimes(2_001);
  });

  test("a tenant with many large ones displaces its own, not those of others", async () => {
    const { compile, get } = setUp();
    const large = (i: number) => schemaFormat({ title: "a".repeat(200_000), const: i });
    for (let i = 0; i < 3; i++) await get("quiet", large(i));
    for (let i = 0; i < 12; i++) await get("greedy", large(i));
    expect(compile).toHaveBeenCalledTimes(15);
    for (let i = 0; i < 3; i++) await get("quiet", large(i));
    await get("greedy", large(11));
    expect(compile).toHaveBeenCalledTimes(15);
    // One that is larger than all others takes the place of the tenant that has been away for longest.
    await get("other", schemaFormat({ title: "a".repeat(900_000), const: 1 }));
    await get("other", schemaFormat({ title: "a".repeat(900_000), const: 1 }));
    expect(compile).toHaveBeenCalledTimes(16);
  });
});
