/** The thread of the self-hosted edge that compiles response formats. */
import { getPriority } from "node:os";
import { Worker } from "node:worker_threads";
import { expect, test, vi } from "vitest";
import { FormatCompiler } from "../../edge/server/format-compiler.ts";
import { parseSource, sourceJson } from "../../shared/api/json-source.ts";
import { compileOutputRules } from "../../shared/tools/grammar.ts";
import { COSTLY_FORMATS } from "../support/costly-formats.ts";
import { schemaFormat } from "../support/grammar.ts";
import { niceOf } from "../support/threads.ts";

/** The latest thread is the last one. */
const threads: Worker[] = [];

vi.mock("node:worker_threads", async (original) => {
  const module = await original<typeof import("node:worker_threads")>();
  class Noted extends module.Worker {
    constructor(...args: ConstructorParameters<typeof Worker>) {
      super(...args);
      threads.push(this);
    }
  }
  return { ...module, Worker: Noted };
});

const compiler = new FormatCompiler(vi.fn());
const compile = async (rules: object) => (await compiler.compile(sourceJson(rules))).result();

test("a format and tools have the same grammar as on the calling thread", async () => {
  const tool = { name: "f", parameters: { properties: { a: { type: "integer" } } } };
  const tools = { format: "hermes", choice: "auto", parallel: true, functions: [tool] };
  for (const rules of [{ format: schemaFormat({ enum: [1, "a"] }) }, { tools }]) {
    const { grammar, chars } = await compile(rules);
    expect(grammar).toEqual(compileOutputRules(rules as Parameters<typeof compileOutputRules>[0]));
    expect(grammar).not.toBeNull();
    expect(chars).toBe(JSON.stringify(grammar).length);
  }
  expect(await compile({ format: { type: "text" } })).toEqual({ grammar: null, chars: 4 });
});

test("keys keep their order and numbers their digits on the way to the thread", async () => {
  const schema = '{"properties":{"b":{"const":9007199254740993},"2":{"minimum":1e-300},"1":{}}}';
  const format = parseSource(
    `{"type":"json_schema","json_schema":{"name":"a","schema":${schema}}}`,
  ) as ReturnType<typeof schemaFormat>;
  const { grammar } = await compile({ format });
  expect(grammar).toEqual(compileOutputRules({ format }));
  expect(JSON.stringify(grammar)).toContain("9007199254740993");
});

test("a refused format has the error of the calling thread, and another one is an error without its reason", async () => {
  await expect(compile({ format: schemaFormat({ type: "wrong" }) })).rejects.toMatchObject({
    code: "invalid_request",
    param: "response_format.json_schema.schema.type",
  });
  await expect(compile({ tools: { format: "hermes", choice: "required" } })).rejects.toThrow(
    "A response format was not compiled",
  );
});

test("a costly format takes the time of the thread, not of the calling one", async () => {
  const [, costly] = COSTLY_FORMATS.find(([name]) => name === "3,000 required properties")!;
  const rules = JSON.stringify({ format: costly });
  const before = process.threadCpuUsage();
  const { spentMs, result } = await compiler.compile(rules);
  const { user, system } = process.threadCpuUsage(before);
  expect(result).toThrow("too large");
  expect(spentMs).toBeGreaterThan((3 * (user + system)) / 1_000);
});

test("formats are compiled in turns: a small one does not wait for a large one", async () => {
  const [, costly] = COSTLY_FORMATS.find(([name]) => name === "300 properties")!;
  const ended: string[] = [];
  const note = async (name: string, format: object) => {
    await compile({ format }).catch(() => {});
    ended.push(name);
  };
  await Promise.all([note("large", costly), note("small", schemaFormat({ type: "null" }))]);
  expect(ended).toEqual(["small", "large"]);
});

test("if the thread crashes, formats that wait fail, and the next one gets another thread", async () => {
  const count = threads.length;
  // It expects an object.
  threads.at(-1)!.postMessage(null);
  await expect(compile({ format: schemaFormat({ type: "null" }) })).rejects.toThrow(
    "The thread that compiles response formats has ended",
  );
  expect(await compile({ format: schemaFormat({ type: "null" }) })).toMatchObject({
    grammar: { rules: ["null"] },
  });
  expect(threads).toHaveLength(count + 1);
});

test("a thread that gives no reply is ended, and the next format gets another one", async () => {
  const onWarning = vi.fn();
  const silent = new FormatCompiler(onWarning);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const reply = silent.compile(sourceJson({ format: schemaFormat({ type: "null" }) }));
  vi.advanceTimersByTime(30_000);
  vi.useRealTimers();
  await expect(reply).rejects.toThrow("has ended");
  expect(onWarning.mock.lastCall).toMatchObject([expect.stringContaining("it gave no reply")]);
  const again = await silent.compile(sourceJson({ format: schemaFormat({ type: "null" }) }));
  expect(again.result().grammar).not.toBeNull();
});

test.runIf(process.platform === "linux" && getPriority() < 5)(
  "the thread and those of V8 have a lower priority than that of the requests",
  () => {
    expect([niceOf("compile"), niceOf("V8Worker")]).toEqual([5, 5]);
  },
);
