/** Several pairs of expert and antiexpert in one generation. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { alphaAt, type Knot } from "../../../../shared/jobs/alpha-schedule.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { Pair } from "../../../../worker/engine/loop/model-set.ts";
import { Sequence, type GenerateRequest } from "../../../../worker/engine/loop/sequence.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";
import { NO_EOS, PROMPTS, generateRequest, runTokens } from "../../../support/decode-loop.ts";

const VOCAB = 12;
const sampling = { logitBias: [NO_EOS] };

/** Two pairs that share their antiexpert, and a third pair that shares only the base with them. */
function threePairs() {
  const models = fakeModels(VOCAB);
  const second = { ...models, expert: new FakeDecoder(noiseLogits(7, VOCAB)) };
  const third = {
    expert: new FakeDecoder(noiseLogits(8, VOCAB)),
    antiexpert: new FakeDecoder(noiseLogits(9, VOCAB)),
  };
  const pairs = (...weights: number[]): Pair[] =>
    [
      { models, prompts: PROMPTS },
      { models: second, prompts: PROMPTS },
      { models: third, prompts: { expert: [9, 9], antiexpert: [8] } },
    ].flatMap((pair, i) => (weights[i] ? [{ ...pair, weight: weights[i] }] : []));
  return { models, second, third, pairs };
}

/** The definition, with logits that are computed from the whole text each time. */
function referenceLogits(pairs: readonly Pair[], alpha: number, text: readonly number[]): number[] {
  const { models } = threePairs();
  const base = logitsOf(models.base, PROMPTS.base, text);
  return base.map((logit, id) => {
    let steered = logit;
    for (const { weight, models, prompts } of pairs) {
      const expert = logitsOf(models.expert, prompts.expert, text)[id]!;
      const antiexpert = logitsOf(models.antiexpert, prompts.antiexpert, text)[id]!;
      steered += alpha * weight * (expert - antiexpert);
    }
    return steered;
  });
}

const logProbs = (logits: readonly number[]) => {
  const sum = Math.log(logits.reduce((total, logit) => total + Math.exp(logit), 0));
  return logits.map((logit) => logit - sum);
};

const logitsOf = (model: unknown, prompt: readonly number[], text: readonly number[]) => [
  ...(model as FakeDecoder).logitsOf([...prompt, ...text]),
];

describe("the logits of several pairs", () => {
  test("with a sign election have only the shifts whose sign is that of their sum", async () => {
    const { models, pairs } = threePairs();
    const weights = [1, 0.5, 3];
    const request = generateRequest({
      models,
      pairs: pairs(...weights),
      alpha: 1.5,
      maxTokens: 8,
      sampling,
    });
    const text: number[] = [];
    let conflicts = 0;
    const elected = { ...request, pairConflicts: "elect" as const };
    for await (const { token, sequence } of generate(elected, { speculate: false })) {
      const base = logProbs(logitsOf(models.base, PROMPTS.base, text));
      const shifts = pairs(...weights).map(({ weight, models, prompts }) => {
        const expert = logProbs(logitsOf(models.expert, prompts.expert, text));
        const antiexpert = logProbs(logitsOf(models.antiexpert, prompts.antiexpert, text));
        return expert.map((value, id) => weight * (value - antiexpert[id]!));
      });
      const expected = base.map((value, id) => {
        const own = shifts.map((shift) => shift[id]!);
        const sum = own.reduce((a, b) => a + b);
        const kept = own.filter((shift) => shift * sum > 0);
        if (kept.length < own.length) conflicts++;
        return value + 1.5 * kept.reduce((a, b) => a + b, 0);
      });
      const actual = logProbs([...sequence.logits]);
      for (const [id, value] of logProbs(expected).entries())
        expect(actual[id]).toBeCloseTo(value, 3);
      text.push(token);
    }
    expect(text).toHaveLength(8);
    expect(conflicts).toBeGreaterThan(8);
  });

  test("are base + alpha * the sum of weight * (expert - antiexpert)", async () => {
    const weights = fc.tuple(
      fc.double({ min: 0.1, max: 2 }),
      fc.constantFrom(0, 0.5),
      fc.constantFrom(0, 1, 3),
    );
    const knots: fc.Arbitrary<Knot[] | undefined> = fc.constantFrom(undefined, [
      [0, 1.5],
      [6, 0.5],
    ]);
    await fc.assert(
      fc.asyncProperty(weights, knots, fc.nat(), async (weights, schedule, seed) => {
        const { models, pairs } = threePairs();
        const options = { models, pairs: pairs(...weights), alpha: 1.5, maxTokens: 8 };
        const request = generateRequest({ ...options, sampling: { ...sampling, seed } });
        const text: number[] = [];
        const steered = { ...request, ...(schedule && { schedule }) };
        for await (const { token, sequence } of generate(steered, { speculate: false })) {
          const alpha = schedule ? alphaAt(schedule, text.length) : 1.5;
          const reference = referenceLogits(options.pairs, alpha, text);
          for (const [id, logit] of sequence.logits.entries())
            expect(logit).toBeCloseTo(reference[id]!, 3);
          text.push(token);
        }
        expect(text).toHaveLength(8);
      }),
      { numRuns: 50 },
    );
  });

  test("of one pair at weight 1 give exactly the tokens of the ensemble's own pair", async () => {
    const { models, pairs } = threePairs();
    expect(await runTokens({ models, sampling, pairs: pairs(1) })).toEqual(
      await runTokens({ models, sampling }),
    );
  });

  test("need one run of a model that two pairs share, and none at alpha 0", async () => {
    const { models, second, third, pairs } = threePairs();
    const all = [
      models.base,
      models.expert,
      models.antiexpert,
      second.expert,
      third.expert,
      third.antiexpert,
    ];
    await runTokens(
      { models, sampling, pairs: pairs(0.7, 0.3, 1), maxTokens: 5 },
      { speculate: false },
    );
    expect(all.map(({ openedCount, openCount }) => [openedCount, openCount])).toEqual(
      all.map(() => [1, 0]),
    );
    // The first token comes with the prompt.
    expect(models.antiexpert.batchSizes).toEqual([1, 1, 1, 1]);
    await runTokens({ models, sampling, pairs: pairs(1, 1, 1), alpha: 0 });
    expect(all.map(({ openedCount }) => openedCount)).toEqual([2, 1, 1, 1, 1, 1]);
  });

  test("need two KV caches of a model that has two prompts", () => {
    const { models, pairs } = threePairs();
    const [first, second] = pairs(1, 1) as [Pair, Pair];
    const apart = { ...second, prompts: { ...PROMPTS, antiexpert: [5, 7] } };
    const sequence = new Sequence(generateRequest({ models, pairs: [first, apart] }));
    expect(sequence.modelStates).toHaveLength(5);
    expect(models.antiexpert.openCount).toBe(2);
  });
});

describe("the trace of several pairs", () => {
  const alphas = async (changes: Partial<GenerateRequest>, pairs: readonly Pair[]) => {
    const { models } = threePairs();
    const request = generateRequest({ models, pairs, sampling, maxTokens: 6 });
    const analysis = { logprobs: null, trace: true };
    const values: [number, number][] = [];
    for await (const step of generate({ ...request, analysis, ...changes })) {
      const { alpha, expert } = step.analysis!.trace!;
      values.push([alpha, expert!]);
    }
    return values;
  };

  test("has the request's alpha, and the mean of the experts; the weight of a single pair changes neither", async () => {
    const { pairs } = threePairs();
    const half = await alphas({ alpha: 2 }, pairs(0.5));
    const whole = await alphas({ alpha: 1 }, pairs(1));
    expect(half.map(([alpha]) => alpha)).toEqual(half.map(() => 2));
    expect(half.map(([, expert]) => expert)).toEqual(whole.map(([, expert]) => expert));
  });

  test("has the alpha that a guard left", async () => {
    const { pairs } = threePairs();
    for (const [alpha] of await alphas({ alpha: 1, guards: { klBudget: 0.01 } }, pairs(2, 2))) {
      expect(alpha).toBeGreaterThan(0);
      expect(alpha).toBeLessThan(0.5);
    }
  });
});

test("the expert of the pair with the largest weight drafts", () => {
  const { models, second, pairs } = threePairs();
  const draftModel = (...weights: number[]) =>
    new Sequence(generateRequest({ models, pairs: pairs(...weights) })).draftModel?.decoder;
  expect(draftModel(0.7, 0.3)).toBe(models.expert);
  expect(draftModel(0.3, 0.7)).toBe(second.expert);
});

test("a sequence that cannot open a cache in every model leaves none open", () => {
  const { models, pairs } = threePairs();
  const full = new FakeDecoder(noiseLogits(1, VOCAB));
  full.open = () => {
    throw new Error("no memory");
  };
  const third: Pair = { weight: 1, models: { ...models, expert: full }, prompts: PROMPTS };
  expect(() => new Sequence(generateRequest({ models, pairs: [...pairs(1), third] }))).toThrow(
    "no memory",
  );
  expect([models.base.openCount, models.expert.openCount, models.antiexpert.openCount]).toEqual([
    0, 0, 0,
  ]);
});
