/**
 * Prompts with an exact number of tokens, in the form of the demo family's task: questions with answers, then one more
 * question. All engines get the same token ids, because transformers.js and llama.cpp could tokenize differently.
 */
import { readFileSync } from "node:fs";
import { ModelTokenizer } from "../../worker/engine/model/tokenizer.ts";
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

/** @param index selects the questions; the last question differs from one index to the next */
export function benchPrompt(tokens: number, index: number): readonly number[] {
  let [ids, turns] = [[] as number[], 0];
  while (ids.length < tokens) {
    turns++;
    const questions = Array.from(
      { length: turns },
      (_, i) => items[(index + i * 7) % items.length]!,
    ).toReversed();
    const messages = questions.flatMap(({ prompt, answer }, i) => [
      { role: "user" as const, content: prompt },
      ...(i < turns - 1 ? [{ role: "assistant" as const, content: `#### ${answer}` }] : []),
    ]);
    ids = tokenizer.encode({ kind: "chat", messages });
  }
  return ids.slice(-tokens);
}
