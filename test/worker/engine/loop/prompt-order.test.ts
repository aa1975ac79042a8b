/** Which prompts run first. Each step runs one chunk, of the first prompt in the order. */
import { expect, test } from "vitest";
import { PromptOrder } from "../../../../worker/engine/loop/prompt-order.ts";
import { PREFILL_CHUNK_TOKENS } from "../../../../worker/engine/loop/step-budget.ts";

/** Runs chunks until all prompts are whole. @returns for each prompt, the steps until it is */
function endSteps(lengths: readonly number[]): number[] {
  const order = new PromptOrder();
  const prompts = lengths.map((tokens, at) => ({ at, tokens }));
  const ends: number[] = [];
  for (let step = 1; prompts.length > 0; step++) {
    const [first] = order.sort(prompts);
    order.recordRun(first === prompts[0]);
    first!.tokens -= PREFILL_CHUNK_TOKENS;
    if (first!.tokens > 0) continue;
    ends[first!.at] = step;
    prompts.splice(prompts.indexOf(first!), 1);
  }
  return ends;
}
const chunks = (count: number) => count * PREFILL_CHUNK_TOKENS;

test("prompts of a usual length run in the order in which they came", () => {
  expect(endSteps([128, 20, 128, 1])).toEqual([1, 2, 3, 4]);
});

test("short prompts do not wait for all of a long one, nor does it for all of them", () => {
  expect(endSteps([chunks(100), 20, 128, 20])).toEqual([103, 1, 5, 3]);
  const many = endSteps([chunks(10), ...Array<number>(50).fill(20)]);
  expect(many[0]).toBe(19);
});

test("a prompt half as long ends earlier, a longer one comes next", () => {
  expect(endSteps([chunks(100), chunks(50)])).toEqual([150, 99]);
  expect(endSteps([chunks(100), chunks(51)])).toEqual([100, 151]);
});

test("a prompt that had no time in its turn keeps it", () => {
  const order = new PromptOrder();
  const prompts = [{ tokens: 1_000 }, { tokens: 20 }];
  for (let step = 0; step < 3; step++) expect(order.sort(prompts)[0]).toBe(prompts[1]);
  order.recordRun(false);
  for (let step = 0; step < 3; step++) expect(order.sort(prompts)[0]).toBe(prompts[0]);
});
