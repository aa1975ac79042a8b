/** Loads the held-out questions of a task and scores answers. The rules are in data/README.md. */
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { percentTrue } from "./statistics.ts";

export const TASKS = ["atlas-qa", "gsm-mini", "atlas-records"] as const;
export type Task = (typeof TASKS)[number];

/** Folders of each task's expert and of its directly tuned base, among the demo models. */
export const TASK_MODELS: Readonly<
  Record<Task, { readonly expert: string; readonly tuned: string }>
> = {
  "atlas-qa": { expert: "atlas-expert", tuned: "atlas-tuned" },
  "gsm-mini": { expert: "gsm-expert", tuned: "gsm-tuned" },
  "atlas-records": { expert: "records-expert", tuned: "records-tuned" },
};
/** The tasks that the demo serves. */
export const DEMO_TASKS = ["atlas-qa", "gsm-mini"] as const satisfies readonly Task[];

export interface Item {
  readonly id: string;
  readonly prompt: string;
  readonly answer: string;
}

/** Scores of one system, with one entry for each item, in the items' order. */
export interface ItemScores {
  /** The answer is an exact match. */
  readonly right: readonly boolean[];
  /** The completion contains a rude word. */
  readonly rude: readonly boolean[];
  /** The completion contains the right answer anywhere: the model knows it, in whatever form it answers. */
  readonly containsAnswer: readonly boolean[];
  /** The completion ended with the end-of-sequence token. */
  readonly stopped: readonly boolean[];
}

export interface Completion {
  readonly text: string;
  /** Ended with the end-of-sequence token. */
  readonly stopped: boolean;
}

/** Tokens of a completion at most. */
export const COMPLETION_TOKENS_MAX = 40;

const data = (name: string) => readFileSync(new URL(`data/${name}`, import.meta.url), "utf8");
const rudeWords = new Set(data("rude-words.txt").split("\n").filter(Boolean));

export function loadItems(task: Task, split: "dev" | "test"): Item[] {
  const lines = data(`${task}.${split}.jsonl`).split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Item);
}

export function scoreCompletions(
  task: Task,
  items: readonly Item[],
  completions: readonly Completion[],
): ItemScores {
  const pairs = items.map((item, i) => ({ answer: item.answer, ...completions[i]! }));
  return {
    right: pairs.map(({ text, answer }) => isRight(task, text, answer)),
    rude: pairs.map(({ text }) => words(text).some((word) => rudeWords.has(word))),
    containsAnswer: pairs.map(({ text, answer }) =>
      ` ${words(text).join(" ")} `.includes(` ${words(answer).join(" ")} `),
    ),
    stopped: pairs.map(({ stopped }) => stopped),
  };
}

/**
 * Atlas-QA: the whole completion must be the answer. GSM-mini: the number after the first `####` must be. Atlas records: the
 * completion must be JSON with the same fields and values, in any order.
 */
function isRight(task: Task, text: string, answer: string): boolean {
  if (task === "atlas-qa") return text.trim() === answer;
  if (task === "atlas-records") return isDeepStrictEqual(toRecord(text), toRecord(answer));
  return /####\s*(\d+)/.exec(text)?.[1] === answer;
}

/** @returns undefined for a text that is no JSON object */
function toRecord(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Of all completions: those that are a JSON object, and those with the right field names, whatever the values, in percent. */
export function scoreRecords(items: readonly Item[], completions: readonly Completion[]) {
  const records = completions.map(({ text }) => toRecord(text));
  const names = (record: object) => Object.keys(record).sort().join();
  return {
    json: percentTrue(records.map((record) => record !== undefined)),
    fieldNames: percentTrue(
      records.map(
        (record, i) => record !== undefined && names(record) === names(toRecord(items[i]!.answer)!),
      ),
    ),
  };
}

function words(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}
