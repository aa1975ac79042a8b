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
      budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 0 });
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
    budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 0 });
    expect(budget.scoreTokens(false, VOCAB, 0)).toBe(1);
  });

  test("are a large chunk while nothing is generated, smaller with a large vocabulary", () => {
    const budget = new StepBudget();
    budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 0 });
    budget.recordScore(1_000, 1);
    expect(budget.scoreTokens(true, VOCAB, 500)).toBe(SCORE_CHUNK_TOKENS);
    expect(budget.scoreTokens(true, 151_936, 500)).toBe(7);
  });
});

describe("prompts", () => {
  /** Runs steps beside sequences that generate; `prompts` are the tokens that each has left. @returns chunks of each step */
  function prefill(prompts: number[], { tokenMs = 1, steps = 400 } = {}) {
    const budget = new StepBudget();
    const chunks: number[][] = [];
    const lengths = [...prompts];
    for (let step = 0; step < steps; step++) {
      budget.startStep("generating");
      chunks.push([]);
      for (const [i, tokens] of prompts.entries()) {
        if (tokens === 0) continue;
        const isCut = tokens < lengths[i]!;
        const count = budget.prefillTokens({ tokens, tokenMs, isCut });
        if (count === 0) break;
        prompts[i]! -= count;
        budget.recordPrefill(count * tokenMs, count);
        chunks.at(-1)!.push(count);
      }
      const waiting = prompts.filter((tokens) => tokens > 0).length;
      budget.recordDecode(DECODE_MS, { tokens: 1, waiting });
    }
    return chunks;
  }

  test("that are longer run in small chunks to their end", () => {
    const chunks = prefill([300], { tokenMs: 0.4 }).flat();
    expect(chunks.reduce((sum, tokens) => sum + tokens)).toBe(300);
    expect(Math.max(...chunks)).toBeLessThan(40);
  });

  test("of a usual length run whole; the next one when the steps have generated tokens for as long", () => {
    const chunks = prefill([100, 40, 60]);
    expect(chunks[0]).toEqual([100]);
    const steps = chunks.flatMap(([tokens], i) => (tokens === undefined ? [] : [[i, tokens]]));
    // While two wait, each step gives twice its time; while one waits, once.
    expect(steps).toEqual([
      [0, 100],
      [5, 40],
      [9, 60],
    ]);
  });

  test.each([0.2, 1, 5])(
    "of another length at most double the time of the steps, whatever a token takes: %d ms",
    (tokenMs) => {
      const steps = 400;
      const tokens = prefill([1_000_000], { tokenMs, steps }).flat();
      const ms = tokens.reduce((sum, count) => sum + count * tokenMs, 0);
      const slack = 128 * tokenMs;
      expect(ms).toBeLessThanOrEqual(steps * DECODE_MS + slack);
      expect(ms).toBeGreaterThan(Math.min(128 * tokenMs, 0.9 * DECODE_MS) * steps - slack);
      expect(Math.min(...tokens)).toBeGreaterThanOrEqual(32);
    },
  );

  test("count with their whole time after steps that only waited for a remote base", () => {
    const budget = new StepBudget();
    const step = () => budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 1 });
    step();
    for (let i = 0; i < 100; i++) budget.recordDecode(0.05, { tokens: 0, waiting: 0 });
    budget.startStep("generating");
    budget.recordPrefill(500, 100);
    const allowed = () => budget.prefillTokens({ tokens: 20, tokenMs: 5 });
    for (let i = 0; i < 49; i++) step();
    expect(allowed()).toBe(0);
    step();
    expect(allowed()).toBe(20);
  });

  test("are not delayed by a pause of the machine", () => {
    const budget = new StepBudget();
    budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 1 });
    budget.startStep("generating");
    budget.recordPrefill(1_000_000, 40);
    for (let step = 0; step < 40; step++) budget.recordDecode(DECODE_MS, { tokens: 1, waiting: 1 });
    budget.startStep("generating");
    expect(budget.prefillTokens({ tokens: 40, tokenMs: 1 })).toBe(40);
  });

  test("that wait together get more time, up to four times that of one", () => {
    const [one, three, many] = [1, 3, 20].map(
      (count) => prefill(Array.from({ length: count }, () => 1_000_000)).flat().length,
    );
    expect(three! / one!).toBeCloseTo(3, 0);
    expect(many! / one!).toBeCloseTo(4, 0);
  });

  test("run in large chunks while nothing is generated, and after one that does not fit no other", () => {
    const budget = new StepBudget();
    budget.startStep("none");
    expect(budget.prefillTokens({ tokens: 4_000, tokenMs: 50 })).toBe(128);
    budget.startStep("none");
    budget.recordPrefill(1_000, 100);
    expect(budget.prefillTokens({ tokens: 28, tokenMs: 1 })).toBe(28);
    expect(budget.prefillTokens({ tokens: 29, tokenMs: 1 })).toBe(0);
  });

  test("do not wait while all others wait for a remote base, but run one by one", () => {
    const budget = new StepBudget();
    const rest = { tokens: 90, tokenMs: 1 };
    for (const others of ["waiting", "waiting", "generating"] as const) {
      budget.startStep(others);
      expect(budget.prefillTokens(rest)).toBe(others === "waiting" ? 90 : 0);
      budget.recordPrefill(90, 90);
      expect(budget.prefillTokens(rest)).toBe(0);
    }
  });
});
