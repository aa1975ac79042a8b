/** Decides whether an answer is right. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Question } from "./questions.ts";

export const METRICS = ["exact", "contains", "regex", "choice", "judge"] as const;
export type MetricName = (typeof METRICS)[number];

/** @returns for each question whether its text is right */
export type Metric = (
  questions: readonly Question[],
  texts: readonly string[],
) => Promise<boolean[]>;

export interface MetricOptions {
  /** Of `regex`: what is compared with the answer; its first group if it has one. Absent: each answer is a pattern. */
  readonly pattern?: string | undefined;
  /** Of `judge`: a shell command. */
  readonly judge?: string | undefined;
}

/** @throws Error if an option is missing or wrong */
export function createMetric(name: MetricName, { pattern, judge }: MetricOptions): Metric {
  if (name === "judge") {
    if (judge === undefined) throw new Error("--metric judge needs --judge COMMAND");
    return (questions, texts) => judgeAll(judge, questions, texts);
  }
  const extract = pattern === undefined ? null : new RegExp(pattern, "u");
  const isRight = {
    exact: isExact,
    contains: containsAnswer,
    regex: (question: Question, text: string) => matches(question, text, extract),
    choice: isChosen,
  }[name];
  return async (questions, texts) => questions.map((question, i) => isRight(question, texts[i]!));
}

/** @throws Error with file and line if a question has no answer that the metric can compare */
export function requireAnswers(name: MetricName, questions: readonly Question[]): void {
  if (name === "judge") return;
  for (const { place, answers, choices } of questions) {
    if (answers.length === 0) throw new Error(`${place}: the line has no answer; see --unlabelled`);
    if (name === "choice" && answers.some((answer) => choiceIndex(answer, choices) === -1)) {
      throw new Error(`${place}: the answer is not one of the choices`);
    }
  }
}

/** Letter case, spaces and a point at the end do not count. */
const normalize = (text: string) =>
  text.trim().toLowerCase().replaceAll(/\s+/gu, " ").replace(/\.$/u, "");

function isExact({ answers }: Question, text: string): boolean {
  return answers.some((answer) => normalize(answer) === normalize(text));
}

const words = (text: string) =>
  ` ${(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(" ")} `;

/** The words of an answer, one after the other, anywhere in the text. */
function containsAnswer({ answers }: Question, text: string): boolean {
  return answers.some((answer) => words(text).includes(words(answer)));
}

function matches({ answers }: Question, text: string, extract: RegExp | null): boolean {
  if (extract === null) return answers.some((answer) => new RegExp(answer, "u").test(text));
  const match = extract.exec(text);
  const found = match && (match[1] ?? match[0]);
  return answers.some((answer) => found !== null && normalize(answer) === normalize(found));
}

/** The letter that the text begins with (`B`, `(B)`, `B.`), else the choice that the text names first, is the right one. */
function isChosen({ answers, choices }: Question, text: string): boolean {
  const chosen = choiceIndex(text, choices);
  return chosen !== -1 && answers.some((answer) => choiceIndex(answer, choices) === chosen);
}

/** @returns -1 if the text names no choice */
function choiceIndex(text: string, choices: readonly string[]): number {
  const letter = /^\W*([A-Za-z])\s*(?:$|[).:,])/u.exec(text)?.[1];
  const index = letter === undefined ? -1 : letter.toUpperCase().codePointAt(0)! - 65;
  if (index >= 0 && index < choices.length) return index;
  const places = choices.map((choice) => words(text).indexOf(words(choice)));
  const first = Math.min(...places.filter((place) => place >= 0));
  return places.indexOf(first);
}

/** The command gets a line of JSON for each answer and prints a line for each: 1 or true if the answer is right. */
async function judgeAll(
  command: string,
  questions: readonly Question[],
  texts: readonly string[],
): Promise<boolean[]> {
  const child = spawn(command, { shell: true, stdio: ["pipe", "pipe", "inherit"] });
  const verdicts: boolean[] = [];
  // A command that ends early closes the pipe; the count below says so.
  child.stdin.on("error", () => {});
  for (const [i, { shown, answers }] of questions.entries()) {
    child.stdin.write(`${JSON.stringify({ prompt: shown, answers, text: texts[i] })}\n`);
  }
  child.stdin.end();
  for await (const line of createInterface(child.stdout)) {
    const verdict = line.trim().toLowerCase();
    if (!["0", "1", "true", "false"].includes(verdict)) {
      throw new Error(
        `--judge: a line must be 1, 0, true or false, received ${JSON.stringify(line)}`,
      );
    }
    verdicts.push(verdict === "1" || verdict === "true");
  }
  if (verdicts.length !== questions.length) {
    throw new Error(`--judge: ${questions.length} answers, but ${verdicts.length} lines`);
  }
  return verdicts;
}
