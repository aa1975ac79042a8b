/**
 * Prompts of an exact length that look like the demo family's task: earlier questions with their answers, and one more
 * question. All engines get the same ids, as transformers.js and llama.cpp could tokenize differently.
 */
import { readFileSync } from "node:fs";
import { ModelTokenizer } from "../../worker/model/tokenizer.ts";
import { family } from "./models/family.ts";

interface Item {
  readonly prompt: string;
  readonly answer: string;
}

const items = readFileSync(new URL("../eval/data/gsm-mini.dev.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Item);
const tokenizer = new ModelTokenizer(family("demo").base, {});

/** The question that comes last differs from number to number. */
export function promptOf(tokens: number, number: number): readonly number[] {
  let [ids, turns] = [[] as number[], 0];
  while (ids.length < tokens) {
    turns++;
    const asked = Array.from(
      { length: turns },
      (_, i) => items[(number + i * 7) % items.length]!,
    ).toReversed();
    const messages = asked.flatMap(({ prompt, answer }, i) => [
      { role: "user" as const, content: prompt },
      ...(i < turns - 1 ? [{ role: "assistant" as const, content: `#### ${answer}` }] : []),
    ]);
    ids = tokenizer.encode({ kind: "chat", messages });
  }
  return ids.slice(-tokens);
}
