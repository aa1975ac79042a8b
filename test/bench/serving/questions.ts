/**
 * Held-out questions as token ids, because llama.cpp could tokenize differently. The length of each one's steered reply, to its own
 * end, is the number of tokens that every server generates for it.
 */
import { readFileSync } from "node:fs";
import { Batch } from "../../../worker/engine/loop/batch.ts";
import type { Sequence } from "../../../worker/engine/loop/sequence.ts";
import { demoModels, demoRequest, demoTokenizer } from "../../support/base-server/demo.ts";

export interface Question {
  readonly ids: readonly number[];
  readonly replyTokens: number;
  /** Whether the reply does not end by itself before that. */
  readonly isEndless?: boolean;
}

const FILE = new URL("../../eval/data/gsm-mini.test.jsonl", import.meta.url);
const BATCH = 16;

/** The first questions of the file; from its end on they are repeated. */
export async function readQuestions(count: number, tokensMax: number): Promise<Question[]> {
  const lines = readFileSync(FILE, "utf8").trim().split("\n").slice(0, count);
  const prompts = lines.map((line) => {
    const { prompt } = JSON.parse(line) as { prompt: string };
    return demoTokenizer.encode({ kind: "chat", messages: [{ role: "user", content: prompt }] });
  });
  const lengths = await replyLengths(prompts, tokensMax);
  return Array.from({ length: count }, (_, i) => {
    const at = i % prompts.length;
    return { ids: prompts[at]!, replyTokens: lengths[at]! };
  });
}

/** With the demo family: the inflated one's replies are the same and take twenty times as long. */
async function replyLengths(
  prompts: readonly (readonly number[])[],
  tokensMax: number,
): Promise<number[]> {
  const models = await demoModels();
  const batch = new Batch({ speculate: false });
  const sequences: Sequence[] = [];
  while (sequences.length < prompts.length || batch.size > 0) {
    while (sequences.length < prompts.length && batch.size < BATCH) {
      const job = { prompt: prompts[sequences.length]!, sampling: { temperature: 0 } };
      sequences.push(batch.add(demoRequest(models, { ...job, maxTokens: tokensMax }))!);
    }
    for (const step of await batch.step()) if ("error" in step) throw step.error;
  }
  return sequences.map(({ tokens }) => tokens.length);
}
