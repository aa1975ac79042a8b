/** Statistical tests of speculative decoding: the output distribution is unchanged. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { totalDrafts } from "../../../../worker/engine-client/messages.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { FakeDecoder, fakeClock } from "../../../support/fake-decoder.ts";
import { EOS, NO_EOS, generateRequest, type RequestOptions } from "../../../support/decode-loop.ts";
import { softmax } from "../../../support/sampling.ts";
import { chiSquareExcess } from "../../../support/statistics.ts";

// The length of drafts depends on the duration of runs, which the fake models decide.
beforeEach(() => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
});

describe("tokens with drafts follow the steered distribution", () => {
  const BASE = [0.3, -1.2, 1.4, 0, -2, 1.1];
  const EXPERT = [1, 0.5, -0.5, 0.2, 0, 0.4];
  const ANTIEXPERT = [-0.3, 0.4, 0.9, 0.1, -1, 0];
  const ALPHA = 0.8;
  const SEQUENCES = 40;
  const TOKENS = 400;

  async function draw(changes: Partial<RequestOptions>) {
    const fixed = (logits: readonly number[], runMs: number) =>
      new FakeDecoder(() => Float32Array.from(logits), { runMs });
    const models = {
      base: fixed(BASE, 50),
      expert: fixed(EXPERT, 1),
      antiexpert: fixed(ANTIEXPERT, 1),
      vocabSize: BASE.length,
    };
    const totals = { drafted: 0, accepted: 0, sequences: [] as number[][] };
    for (let seed = 0; seed < SEQUENCES; seed++) {
      const batch = new Batch();
      const sampling = { ...changes.sampling, seed, logitBias: [NO_EOS] };
      const sequence = batch.add(
        generateRequest({ models, maxTokens: TOKENS, ...changes, sampling }),
      )!;
      while (batch.size > 0) await batch.step();
      const { drafted, accepted } = totalDrafts(sequence.drafts);
      totals.drafted += drafted;
      totals.accepted += accepted;
      totals.sequences.push(sequence.tokens);
    }
    return totals;
  }

  /** Compares counts of tokens, and of pairs of tokens, with independent draws. */
  function excess(sequences: readonly number[][], probabilities: readonly number[]) {
    const allowed = probabilities.flatMap((probability, id) => (probability > 0 ? [id] : []));
    const pairs = allowed.flatMap((a) => allowed.map((b) => [a, b] as const));
    const all = sequences.flat();
    expect(all.filter((token) => !allowed.includes(token))).toEqual([]);
    const count = (matches: (sequence: readonly number[], i: number) => boolean) =>
      sequences.reduce(
        (sum, sequence) => sum + sequence.filter((_, i) => matches(sequence, i)).length,
        0,
      );
    return {
      tokens: chiSquareExcess(
        allowed.map((id) => count((sequence, i) => sequence[i] === id)),
        allowed.map((id) => probabilities[id]! * all.length),
      ),
      pairs: chiSquareExcess(
        pairs.map(([a, b]) =>
          count((sequence, i) => i > 0 && sequence[i - 1] === a && sequence[i] === b),
        ),
        pairs.map(([a, b]) => probabilities[a]! * probabilities[b]! * SEQUENCES * (TOKENS - 1)),
      ),
    };
  }

  const steered = (temperature: number, alpha = ALPHA) =>
    BASE.map((logit, id) =>
      id === EOS ? -Infinity : (logit + alpha * (EXPERT[id]! - ANTIEXPERT[id]!)) / temperature,
    );

  test.each([0.7, 1, 1.5])("at temperature %d", async (temperature) => {
    const { drafted, accepted, sequences } = await draw({
      alpha: ALPHA,
      sampling: { temperature },
    });
    // Neither nearly all nor nearly none are accepted, so both cases are tested.
    expect(drafted).toBeGreaterThan(SEQUENCES * TOKENS * 0.3);
    expect(accepted / drafted).toBeGreaterThan(0.2);
    expect(accepted / drafted).toBeLessThan(0.8);
    const { tokens, pairs } = excess(sequences, softmax(steered(temperature)));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });

  test("restricted to the top-k tokens", async () => {
    const { sequences } = await draw({ alpha: ALPHA, sampling: { topK: 3 } });
    const logits = steered(1);
    const third = logits.toSorted((a, b) => b - a)[2]!;
    const allowed = logits.map((logit) => (logit >= third ? logit : -Infinity));
    const { tokens, pairs } = excess(sequences, softmax(allowed));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });

  test("of the base alone, with drafts of prompt lookup", async () => {
    const { drafted, sequences } = await draw({ alpha: 0 });
    expect(drafted).toBeGreaterThan(SEQUENCES * TOKENS * 0.3);
    const { tokens, pairs } = excess(sequences, softmax(steered(1, 0)));
    expect(tokens).toBeLessThan(4);
    expect(pairs).toBeLessThan(4);
  });
});
