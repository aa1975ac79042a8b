/** Questions in JSON lines, their split, and when an answer is right. */
import { describe, expect, test } from "vitest";
import { alphasToTry } from "./alphas.ts";
import { createMetric, requireAnswers, type MetricName, type MetricOptions } from "./metrics.ts";
import { parseQuestion, split } from "./questions.ts";

const question = (fields: object) =>
  parseQuestion(JSON.stringify({ prompt: "?", ...fields }), "q.jsonl:7");

describe("a line", () => {
  test("has a prompt, a text or messages, and one or several answers", () => {
    expect(question({ answer: "a" })).toEqual({
      place: "q.jsonl:7",
      input: { kind: "chat", messages: [{ role: "user", content: "?" }] },
      shown: "?",
      answers: ["a"],
      choices: [],
    });
    const messages = [
      { role: "system", content: "s" },
      { role: "user", content: "u" },
    ];
    expect(question({ prompt: undefined, messages, answer: ["a", "b"] })).toMatchObject({
      input: { kind: "chat", messages },
      shown: "system: s\nuser: u",
      answers: ["a", "b"],
    });
    expect(question({ prompt: undefined, text: "t" })).toMatchObject({
      input: { kind: "text", text: "t" },
      answers: [],
    });
  });

  test.each([
    ["{", "q.jsonl:7: the line is not JSON"],
    ['"x"', "q.jsonl:7: the line: "],
    ["{}", "q.jsonl:7: exactly one of prompt, text and messages must be set"],
    ['{"prompt":"a","text":"b"}', "exactly one of"],
    ['{"prompt":5}', "q.jsonl:7: prompt: "],
    ['{"prompt":"a","answer":[]}', "q.jsonl:7: answer: "],
    ['{"messages":[{"role":"x","content":"a"}]}', "q.jsonl:7: messages.0.role: "],
  ])("%s is refused", (line, message) => {
    expect(() => parseQuestion(line, "q.jsonl:7")).toThrow(message);
  });
});

test("the split is the same each time, mixes the lines, and loses none", () => {
  const lines = Array.from({ length: 90 }, (_, i) => i);
  const { dev, test: rest } = split(lines);
  expect(split(lines)).toEqual({ dev, test: rest });
  expect([dev.length, rest.length]).toEqual([30, 60]);
  expect([...dev, ...rest].toSorted((a, b) => a - b)).toEqual(lines);
  expect(dev.filter((i) => i < 30).length).toBeLessThan(20);
  expect(split(Array.from({ length: 3_000 })).dev).toHaveLength(200);
});

describe("a metric", () => {
  const choices = ["red", "light blue", "blue"];
  test.each<[MetricName, MetricOptions, object, string, boolean]>([
    ["exact", {}, { answer: "Paris" }, " paris.\n", true],
    ["exact", {}, { answer: "Paris" }, "It is Paris", false],
    ["exact", {}, { answer: ["a", "b"] }, "b", true],
    ["contains", {}, { answer: "Paris" }, "It is PARIS, of course", true],
    ["contains", {}, { answer: "5" }, "It is 56", false],
    ["regex", { pattern: "####\\s*(\\d+)" }, { answer: "35" }, "9 + 26 = 35 #### 35", true],
    ["regex", { pattern: "####\\s*(\\d+)" }, { answer: "35" }, "35", false],
    ["regex", {}, { answer: "^ye(s|p)" }, "yep", true],
    ["choice", {}, { answer: "B", choices }, "(b) it is", true],
    ["choice", {}, { answer: "light blue", choices }, "I say light blue, not red", true],
    ["choice", {}, { answer: "blue", choices }, "B", false],
    ["choice", {}, { answer: "red", choices }, "A car is blue", false],
    ["choice", {}, { answer: "red", choices }, "green", false],
    ["choice", {}, { answer: "crimson", choices }, "green", false],
  ])("%s %o: %o and %j", async (name, options, fields, text, isRight) => {
    expect(await createMetric(name, options)([question(fields)], [text])).toEqual([isRight]);
  });

  test.each<[MetricName, object, string]>([
    ["choice", { answer: "crimson", choices }, "q.jsonl:7: the answer is not one of the choices"],
    ["choice", { answer: ["red", "D"], choices }, "the answer is not one of the choices"],
    ["choice", { answer: "A" }, "the answer is not one of the choices"],
    ["exact", {}, "q.jsonl:7: the line has no answer"],
  ])("%s refuses %o", (name, fields, message) => {
    expect(() => requireAnswers(name, [question(fields)])).toThrow(message);
  });

  test("judge asks a command about all answers, and checks what it prints", async () => {
    const questions = [question({ answer: "a" }), question({ answer: "b" })];
    const judge = (command: string) =>
      createMetric("judge", { judge: command })(questions, ["a", "x"]);
    const program =
      "for await (const line of require('readline').createInterface(process.stdin)) { const { answers, text } = JSON.parse(line); console.log(answers.includes(text)) }";
    expect(await judge(`node -e "(async () => { ${program} })()"`)).toEqual([true, false]);
    await expect(judge("echo 1")).rejects.toThrow("--judge: 2 answers, but 1 lines");
    await expect(judge("echo maybe")).rejects.toThrow('received "maybe"');
    expect(() => createMetric("judge", {})).toThrow("--metric judge needs --judge COMMAND");
  });
});

describe("alphas", () => {
  test.each([
    [undefined, 0.7, [0.3, 0.5, 0.6, 0.7]],
    [[0.5, 0], 2, [0.5, 0.6]],
  ])("of %j up to %d", (given, alphaMax, tried) => {
    expect(alphasToTry(given, { alpha: 0.6, alphaMax })).toEqual(tried);
  });

  test.each([
    [[0.5, 2.5], 2, "--alphas: at most 2, the ensemble's alphaMax"],
    [[0], 2, "--alphas: one above 0 is needed"],
    [undefined, 0.1, "--alphas: one above 0 is needed"],
  ])("%j are refused", (given, alphaMax, message) => {
    expect(() => alphasToTry(given, { alpha: 0, alphaMax })).toThrow(message);
  });
});
