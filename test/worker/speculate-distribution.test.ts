import { beforeEach, describe, expect, test, vi } from "vitest";
import { allDrafts } from "../../worker/decode/draft.ts";
import { Batch } from "../../worker/generate.ts";
import { FakeDecoder, fakeClock } from "../support/fake-decoder.ts";
import { EOS, NO_EOS, request, type RowOptions } from "../support/rows.ts";
import { softmax } from "../support/sampling.ts";
import { chiSquareExcess } from "../support/statistics.ts";

// How far drafts go depends on what runs take, which fake models decide.
beforeEach(() => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
});

describe("tokens follow the steered distribution although they are drafted", () => {
  const BASE = [0.3, -1.2, 1.4, 0, -2, 1.1];
  const EXPERT = [1, 0.5, -0.5, 0.2, 0, 0.4];
  const ANTIEXPERT = [-0.3, 0.4, 0.9, 0.1, -1, 0];
  const ALPHA = 0.8;
  const ROWS = 40;
  const TOKENS = 400;

  async function draw(changes: Partial<RowOptions>) {
    const fixed = (logits: readonly number[], runMs: number) =>
      new FakeDecoder(() => Float32Array.from(logits), { runMs });
    const models = {
      base: fixed(BASE, 50),
      expert: fixed(EXPERT, 1),
      antiexpert: fixed(ANTIEXPERT, 1),
      vocabSize: BASE.length,
    };
    const totals = { drafted: 0, accepted: 0, rows: [] as number[][] };
    for (let seed = 0; seed < ROWS; seed++) {
      const batch = new Batch();
      const sampling = { ...changes.sampling, seed, logitBias: [NO_EOS] };
      const row = batch.add(request({ models, maxTokens: TOKENS, ...changes, sampling }))!;
      while (batch.size > 0) await batch.step();
      const { drafted, accepted } = allDrafts(row.drafts);
      totals.drafted += drafted;
      totals.accepted += accepted;
      totals.rows.push(row.tokens);
    }
    return totals;
  }

  /** Counts of tokens, and of pairs of tokens, against what independent draws give. */
  function excess(rows: readonly number[][], probabilities: readonly number[]) {
    const kept = probabilities.flatMap((probability, id) => (probability > 0 ? [id] : []));
    const pairs = kept.flatMap((a) => kept.map((b) => [a, b] as const));
    const all = rows.flat();
    expect(all.filter((token) => !kept.includes(token))).toEqual([]);
    const count = (matches: (row: readonly number[], i: number) => boolean) =>
      rows.reduce((sum, row) => sum + row.filter((_, i) => matches(row, i)).length, 0);
    return {
      tokens: chiSquareExcess(
        kept.map((id) => count((row, i) => row[i] === id)),
        kept.map((id) => probabilities[id]! * all.length),
      ),
      pairs: chiSquareExcess(
        pairs.map(([a, b]) => count((row, i) => i > 0 && row[i - 1] === a && row[i] === b)),
        pairs.map(([a, b]) => probabilities[a]! * probabilities[b]! * ROWS * (TOKENS - 1)),
      ),
    };
  }

  const steered = (temperature: number, alpha = ALPHA) =>
    BASE.map((logit, id) =>
      id === EOS ? -Infinity : (logit + alpha * (EXPERT[id]! - ANTIEXPERT[id]!)) / temperature,
    );

  test.each([0.7, 1, 1.5])("at temperature %d", async (temperature) => {
    const { drafted, accepted, rows } = await draw({ alpha: ALPHA, sampling: { temperature } });
    // Neither nearly all nor nearly none, so both ends of a draft count.
    expect(drafted).toBeGreaterThan(ROWS * TOKENS * 0.3);
    expect(accepted / drafted).toBeGreaterThan(0.2);
    expect(accepted / drafted).toBeLessThan(0.8);
    const { tokens, pairs } = excess(rows, softmax(steered(temperature)));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });

  test("of the tokens that top-k keeps", async () => {
    const { rows } = await draw({ alpha: ALPHA, sampling: { topK: 3 } });
    const logits = steered(1);
    const third = logits.toSorted((a, b) => b - a)[2]!;
    const kept = logits.map((logit) => (logit >= third ? logit : -Infinity));
    const { tokens, pairs } = excess(rows, softmax(kept));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });

  test("of the base alone, drafted from repetitions", async () => {
    const { drafted, rows } = await draw({ alpha: 0 });
    expect(drafted).toBeGreaterThan(ROWS * TOKENS * 0.3);
    const { tokens, pairs } = excess(rows, softmax(steered(1, 0)));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });
});
