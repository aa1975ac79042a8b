/** The held-out questions of one behaviour, and the program that marks an answer. data/README.md has the rules. */
import { readFileSync } from "node:fs";

export const TASKS = ["atlas-qa", "gsm-mini"] as const;
export type Task = (typeof TASKS)[number];

export interface Item {
  readonly id: string;
  readonly prompt: string;
  readonly answer: string;
}

/** Marks of one system on the items of a split, in the items' order. */
export interface Marks {
  readonly right: readonly boolean[];
  readonly rude: readonly boolean[];
  /** The right answer stands somewhere in the completion: knowledge, whatever the behaviour. */
  readonly contains: readonly boolean[];
  /** Ended by itself. */
  readonly stops: readonly boolean[];
}

export interface Completion {
  readonly text: string;
  readonly stopped: boolean;
}

/** New tokens that a completion may have. */
export const COMPLETION_TOKENS_MAX = 40;

const data = (name: string) => readFileSync(new URL(`data/${name}`, import.meta.url), "utf8");
const rudeWords = new Set(data("rude-words.txt").split("\n").filter(Boolean));

export function loadItems(task: Task, split: "dev" | "test"): Item[] {
  const lines = data(`${task}.${split}.jsonl`).split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Item);
}

export function mark(
  task: Task,
  items: readonly Item[],
  completions: readonly Completion[],
): Marks {
  const pairs = items.map((item, i) => ({ answer: item.answer, ...completions[i]! }));
  return {
    right: pairs.map(({ text, answer }) => isRight(task, text, answer)),
    rude: pairs.map(({ text }) => words(text).some((word) => rudeWords.has(word))),
    contains: pairs.map(({ text, answer }) =>
      ` ${words(text).join(" ")} `.includes(` ${words(answer).join(" ")} `),
    ),
    stops: pairs.map(({ stopped }) => stopped),
  };
}

/** Atlas-QA: the whole completion is the answer. GSM-mini: the number after the first `####` is. */
function isRight(task: Task, text: string, answer: string): boolean {
  if (task === "atlas-qa") return text.trim() === answer;
  return /####\s*(\d+)/.exec(text)?.[1] === answer;
}

function words(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}
