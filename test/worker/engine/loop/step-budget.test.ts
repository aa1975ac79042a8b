/** How much of prompts and scored texts a step runs, with runs that take a known time. */
import { describe, expect, test } from "vitest";
import { SCORE_CHUNK_TOKENS, StepBudget } from "../../../../worker/engine/loop/step-budget.ts";

const DECODE_MS = 10;
const VOCAB = 2_048;

describe("scored tokens", () => {
  /** The mean time of later chunks, of which `count` tokens take `runMs + tokenMs * count`, and the largest of them. */
  function settled({ runMs = 5, tokenMs = 0.5, spentMs = 0 }) {
    const budget = new StepBudget();
    const chunks: number[] = [];
    for (let step = 0; step < 200; step++) {
      budget.recordDecode(DECODE_MS);
      const count = budget.scoreTokens(false, VOCAB, spentMs);
      budget.recordScore(runMs + tokenMs * count, count);
      chunks.push(count);
    }
    const later = chunks.slice(100);
    const meanMs = later.reduce((sum, count) => sum + runMs + tokenMs * count, 0) / later.length;
    return { meanMs, most: Math.max(...later) };
  }

  test.each([0.5, 0.2, 2, 0.4])(
    "take about as long as the step takes to generate the others' tokens: %d ms each",
    (tokenMs) => {
      const { meanMs } = settled({ tokenMs });
      expect(meanMs).toBeLessThan(1.06 * DECODE_MS);
      expect(meanMs).toBeGreaterThan(0.8 * DECODE_MS);
    },
  );

  test("are one at least, also if a prompt has taken the time or each takes longer than all of it", () => {
    expect(settled({ spentMs: 20 }).most).toBe(1);
    expect(settled({ tokenMs: 90 }).most).toBe(1);
  });

  test("are one in the first step beside others, before a time is known", () => {
    const budget = new StepBudget();
    budget.recordDecode(DECODE_MS);
    expect(budget.scoreTokens(false, VOCAB, 0)).toBe(1);
  });

  test("are a large chunk while nothing is generated, smaller with a large vocabulary", () => {
    const budget = new StepBudget();
    budget.recordDecode(DECODE_MS);
    budget.recordScore(1_000, 1);
    expect(budget.scoreTokens(true, VOCAB, 500)).toBe(SCORE_CHUNK_TOKENS);
    expect(budget.scoreTokens(true, 151_936, 500)).toBe(7);
  });
});

test("prompt tokens take about as long, but 16 at least; a large chunk while nothing is generated", () => {
  const budget = new StepBudget();
  budget.recordDecode(DECODE_MS);
  expect(budget.prefillTokens(false)).toBe(128);
  budget.recordPrefill(20, 100);
  expect(budget.prefillTokens(false)).toBe(50);
  expect(budget.prefillTokens(true)).toBe(128);
  const slow = new StepBudget();
  slow.recordDecode(DECODE_MS);
  slow.recordPrefill(200, 100);
  expect(slow.prefillTokens(false)).toBe(16);
});
