/** Reads the questions of a scorecard: JSON lines. */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import type { Input } from "../../shared/jobs/record.ts";

const Line = v.object({
  /** A question as one message of a user. */
  prompt: v.optional(v.pipe(v.string(), v.minLength(1))),
  /** A text that is continued, without a chat template. */
  text: v.optional(v.pipe(v.string(), v.minLength(1))),
  messages: v.optional(
    v.pipe(
      v.array(v.object({ role: v.picklist(["system", "user", "assistant"]), content: v.string() })),
      v.minLength(1),
    ),
  ),
  /** The right answer, or several of which each is right. */
  answer: v.optional(v.union([v.string(), v.pipe(v.array(v.string()), v.minLength(1))])),
  /** With the metric `choice`: the answers to choose from. */
  choices: v.optional(v.pipe(v.array(v.string()), v.minLength(2))),
});

export interface Question {
  /** File and line, for errors. */
  readonly place: string;
  readonly input: Input;
  /** The question, for the report. */
  readonly shown: string;
  /** Empty if the line has no answer. */
  readonly answers: readonly string[];
  readonly choices: readonly string[];
}

/** @throws Error with file, line and field */
export function readQuestions(file: string): Question[] {
  const lines = readFileSync(file, "utf8").split("\n");
  const questions = lines.flatMap((line, i) =>
    line.trim() === "" ? [] : [parseQuestion(line, `${file}:${i + 1}`)],
  );
  if (questions.length === 0) throw new Error(`${file} has no line`);
  return questions;
}

/** @param place file and line, for errors */
export function parseQuestion(line: string, place: string): Question {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    throw new Error(`${place}: the line is not JSON`);
  }
  const parsed = v.safeParse(Line, json);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new Error(`${place}: ${v.getDotPath(issue) ?? "the line"}: ${issue.message}`);
  }
  const { prompt, text, messages, answer, choices = [] } = parsed.output;
  if ([prompt, text, messages].filter((field) => field !== undefined).length !== 1) {
    throw new Error(`${place}: exactly one of prompt, text and messages must be set`);
  }
  const input: Input =
    text === undefined
      ? { kind: "chat", messages: messages ?? [{ role: "user", content: prompt! }] }
      : { kind: "text", text };
  return {
    place,
    input,
    shown: text ?? prompt ?? messages!.map(({ role, content }) => `${role}: ${content}`).join("\n"),
    answers: answer === undefined ? [] : [answer].flat(),
    choices,
  };
}

/** The questions in an order that depends only on `seed`, in two parts: the first has a third of them, at most 200. */
export function split<T>(questions: readonly T[], seed = 1): { dev: T[]; test: T[] } {
  const shuffled = [...questions];
  let state = seed;
  for (let i = shuffled.length - 1; i > 0; i--) {
    // Park and Miller's generator: its products are below 2^53.
    state = (state * 48_271) % 2_147_483_647;
    const j = state % (i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
  }
  const count = Math.min(200, Math.floor(shuffled.length / 3));
  return { dev: shuffled.slice(0, count), test: shuffled.slice(count) };
}
