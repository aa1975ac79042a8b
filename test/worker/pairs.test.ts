import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { alphaAt, type Knot } from "../../worker/decode/schedule.ts";
import { generate } from "../../worker/generate.ts";
import type { Pair } from "../../worker/parts.ts";
import { Row, type GenerateRequest } from "../../worker/row.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../support/fake-decoder.ts";
import { NO_EOS, PROMPTS, request, tokensOf } from "../support/rows.ts";

const VOCAB = 12;
const sampling = { logitBias: [NO_EOS] };

/** Two pairs that share their antiexpert, and one that has nothing with them in common but the base. */
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

/** The definition, from logits that are computed from the whole text anew. */
function slowLogits(pairs: readonly Pair[], alpha: number, text: readonly number[]): number[] {
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

const logitsOf = (model: unknown, prompt: readonly number[], text: readonly number[]) => [
  ...(model as FakeDecoder).logitsOf([...prompt, ...text]),
];

describe("the logits of several pairs", () => {
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
        const made = request({ ...options, sampling: { ...sampling, seed } });
        const text: number[] = [];
        const steered = { ...made, ...(schedule && { schedule }) };
        for await (const { token, row } of generate(steered, { speculate: false })) {
          const alpha = schedule ? alphaAt(schedule, text.length) : 1.5;
          const slow = slowLogits(options.pairs, alpha, text);
          for (const [id, logit] of row.logits.entries()) expect(logit).toBeCloseTo(slow[id]!, 3);
          text.push(token);
        }
        expect(text).toHaveLength(8);
      }),
      { numRuns: 50 },
    );
  });

  test("of one pair at weight 1 are the ensemble's own, to the bit", async () => {
    const { models, pairs } = threePairs();
    expect(await tokensOf({ models, sampling, pairs: pairs(1) })).toEqual(
      await tokensOf({ models, sampling }),
    );
  });

  test("come from one run of what two pairs share, and from none at alpha 0", async () => {
    const { models, second, third, pairs } = threePairs();
    const all = [
      models.base,
      models.expert,
      models.antiexpert,
      second.expert,
      third.expert,
      third.antiexpert,
    ];
    await tokensOf(
      { models, sampling, pairs: pairs(0.7, 0.3, 1), maxTokens: 5 },
      { speculate: false },
    );
    expect(all.map(({ opened, running }) => [opened, running])).toEqual(all.map(() => [1, 0]));
    expect(models.antiexpert.turns).toEqual([1, 1, 1, 1, 1]);
    await tokensOf({ models, sampling, pairs: pairs(1, 1, 1), alpha: 0 });
    expect(all.map(({ opened }) => opened)).toEqual([2, 1, 1, 1, 1, 1]);
  });

  test("are of two parts where one model has two prompts", () => {
    const { models, pairs } = threePairs();
    const [one, two] = pairs(1, 1) as [Pair, Pair];
    const apart = { ...two, prompts: { ...PROMPTS, antiexpert: [5, 7] } };
    const row = new Row(request({ models, pairs: [one, apart] }));
    expect(row.voices).toHaveLength(5);
    expect(models.antiexpert.running).toBe(2);
  });
});

describe("what is told of several pairs", () => {
  const alphas = async (changes: Partial<GenerateRequest>, pairs: readonly Pair[]) => {
    const { models } = threePairs();
    const made = request({ models, pairs, sampling, maxTokens: 6 });
    const report = { logprobs: null, trace: true };
    const told: [number, number][] = [];
    for await (const step of generate({ ...made, report, ...changes })) {
      const { alpha, expert } = step.report!.shift!;
      told.push([alpha, expert!]);
    }
    return told;
  };

  test("is the request's alpha, and an expert that is their mean: a weight of one pair changes neither", async () => {
    const { pairs } = threePairs();
    const half = await alphas({ alpha: 2 }, pairs(0.5));
    const whole = await alphas({ alpha: 1 }, pairs(1));
    expect(half.map(([alpha]) => alpha)).toEqual(half.map(() => 2));
    expect(half.map(([, expert]) => expert)).toEqual(whole.map(([, expert]) => expert));
  });

  test("is what a guard left of that alpha", async () => {
    const { pairs } = threePairs();
    for (const [alpha] of await alphas({ alpha: 1, guards: { klBudget: 0.01 } }, pairs(2, 2))) {
      expect(alpha).toBeGreaterThan(0);
      expect(alpha).toBeLessThan(0.5);
    }
  });
});

test("the heaviest pair's expert drafts", () => {
  const { models, second, pairs } = threePairs();
  const drafter = (...weights: number[]) =>
    new Row(request({ models, pairs: pairs(...weights) })).drafter?.decoder;
  expect(drafter(0.7, 0.3)).toBe(models.expert);
  expect(drafter(0.3, 0.7)).toBe(second.expert);
});

test("a row that cannot open all its sequences leaves none open", () => {
  const { models, pairs } = threePairs();
  const full = new FakeDecoder(noiseLogits(1, VOCAB));
  full.open = () => {
    throw new Error("no memory");
  };
  const third: Pair = { weight: 1, models: { ...models, expert: full }, prompts: PROMPTS };
  expect(() => new Row(request({ models, pairs: [...pairs(1), third] }))).toThrow("no memory");
  expect([models.base.running, models.expert.running, models.antiexpert.running]).toEqual([
    0, 0, 0,
  ]);
});
