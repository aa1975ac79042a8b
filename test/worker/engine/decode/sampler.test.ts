/** Sampling: the distribution of draws, penalties, rewind. */
import * as fc from "fast-check";
import { isInside } from "../../../../worker/engine/decode/border.ts";
import { describe, expect, test } from "vitest";
import { argmax } from "../../../../worker/engine/decode/exp.ts";
import { Sampler, type Sampling } from "../../../../worker/engine/decode/sampler.ts";
import { truncate } from "../../../../worker/engine/decode/truncate.ts";
import { sampling, softmax } from "../../../support/sampling.ts";
import { chiSquareExcess } from "../../../support/statistics.ts";

const LOGITS = [0.3, -1.2, 1.9, 0, -4, 1.1, -0.5, 0.9];
const GREEDY = sampling({ temperature: 0 });

function draws(options: Sampling, logits: readonly number[], count: number): number[] {
  const sampler = new Sampler(options, []);
  return Array.from({ length: count }, () => {
    const token = sampler.sample(Float32Array.from(logits));
    sampler.accept(token);
    return token;
  });
}

/** Compares the counts of the allowed tokens with the softmax over them. */
function excess(options: Partial<Sampling>, allowed = LOGITS.map((_, id) => id)): number {
  const all = sampling({ seed: 20_240_116, ...options });
  const tokens = draws(all, LOGITS, 20_000);
  expect(tokens.filter((token) => !allowed.includes(token))).toEqual([]);
  const probabilities = softmax(allowed.map((id) => LOGITS[id]! / all.temperature));
  const observed = allowed.map((id) => tokens.filter((token) => token === id).length);
  return chiSquareExcess(
    observed,
    probabilities.map((probability) => probability * tokens.length),
  );
}

describe("draws follow the softmax", () => {
  test.each([0.5, 1, 1.7])("at temperature %d", (temperature) => {
    expect(excess({ temperature })).toBeLessThan(4);
  });

  test("over the top-k tokens", () => {
    expect(excess({ topK: 3 }, [2, 5, 7])).toBeLessThan(4);
  });

  test("over the top-p tokens", () => {
    const options = { topK: 0, topP: 0.8, minP: 0 };
    const logits = Float32Array.from(LOGITS);
    const border = truncate(logits, options)!;
    const allowed = [...logits.keys()].filter((id) => isInside(logits[id]!, id, border));
    expect(allowed).toHaveLength(4);
    expect(excess(options, allowed)).toBeLessThan(4);
  });

  test("over the min-p tokens", () => {
    expect(excess({ minP: 0.35 }, [2, 5, 7])).toBeLessThan(4);
  });

  test("and truncation applies after the temperature", () => {
    expect(excess({ minP: 0.35, temperature: 2 }, [0, 2, 3, 5, 7])).toBeLessThan(4);
  });
});

test("temperature 0 takes the largest logit, the first of equals", () => {
  expect(new Sampler(GREEDY, []).sample(Float32Array.of(1, 3, 2, 3))).toBe(1);
});

test("a temperature near 0 gives the largest logit, without overflow", () => {
  const sampler = new Sampler(sampling({ temperature: 5e-324 }), []);
  expect(sampler.sample(Float32Array.of(-2, -1, -3))).toBe(1);
});

test("the same seed draws the same tokens, another seed others", () => {
  const run = (seed: number) => draws(sampling({ seed }), LOGITS, 50);
  expect(run(5)).toEqual(run(5));
  expect(run(5)).not.toEqual(run(6));
});

test("a draw depends on the position, not on the sampler object", () => {
  const tokens = draws(sampling(), LOGITS, 30);
  const later = new Sampler(sampling(), []);
  for (const token of tokens.slice(0, 20)) later.accept(token);
  expect(later.sample(Float32Array.from(LOGITS))).toBe(tokens[20]);
});

test("skipping tokens that cannot win changes no draw", () => {
  const wide = fc.array(fc.float({ min: -200, max: 200, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(wide, fc.maxSafeNat(), (logits, seed) => {
      // Top-k over the whole vocabulary uses the other code path, with a ranking.
      const everything = sampling({ seed, topK: logits.length });
      expect(draws(sampling({ seed }), logits, 3)).toEqual(draws(everything, logits, 3));
    }),
  );
});

test("penalties and bias change the logits as documented", () => {
  const ids = fc.array(fc.nat(7), { maxLength: 10 });
  const penalties = fc.record({
    repetitionPenalty: fc.double({ min: 0.1, max: 3, noNaN: true }),
    presencePenalty: fc.double({ min: -2, max: 2, noNaN: true }),
    frequencyPenalty: fc.double({ min: -2, max: 2, noNaN: true }),
    logitBias: fc.uniqueArray(fc.tuple(fc.nat(7), fc.integer({ min: -100, max: 100 })), {
      selector: ([id]) => id,
    }),
  });
  fc.assert(
    fc.property(ids, ids, penalties, (prompt, output, options) => {
      const sampler = new Sampler(sampling({ temperature: 0, ...options }), prompt);
      for (const id of output) sampler.accept(id);
      const logits = Float32Array.from(LOGITS);
      sampler.sample(logits);

      const reference = LOGITS.map((logit, id) => {
        const { repetitionPenalty: r, presencePenalty, frequencyPenalty, logitBias } = options;
        const seen = prompt.includes(id) || output.includes(id);
        const repeated = seen ? (logit > 0 ? logit / r : logit * r) : logit;
        const count = output.filter((other) => other === id).length;
        const penalized =
          count > 0 ? repeated - presencePenalty - frequencyPenalty * count : repeated;
        return penalized + (logitBias.find(([biased]) => biased === id)?.[1] ?? 0);
      });
      for (const [id, logit] of reference.entries()) expect(logits[id]).toBeCloseTo(logit, 3);
    }),
  );
});

test("rewind restores counts, penalties and position", () => {
  const ids = fc.array(fc.nat(7), { maxLength: 10 });
  const rewinding = fc.array(fc.tuple(ids, fc.nat(12)), { maxLength: 5 });
  const options = fc.record({
    temperature: fc.constantFrom(0, 1),
    repetitionPenalty: fc.constantFrom(1, 1.5),
    presencePenalty: fc.constantFrom(0, 0.5),
    frequencyPenalty: fc.constantFrom(0, 0.5),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(options, rewinding, ids, (options, rounds, after) => {
      const sampler = new Sampler(sampling(options), [1, 2]);
      const accepted: number[] = [];
      const accept = (id: number) => {
        sampler.accept(id);
        accepted.push(id);
      };
      for (const [drafts, count] of rounds) {
        for (const id of drafts) accept(id);
        const back = Math.min(count, accepted.length);
        sampler.rewind(back);
        accepted.splice(accepted.length - back);
      }
      for (const id of after) accept(id);

      const straight = new Sampler(sampling(options), [1, 2]);
      for (const id of accepted) straight.accept(id);
      const [logits, expected] = [Float32Array.from(LOGITS), Float32Array.from(LOGITS)];
      expect(sampler.sample(logits)).toBe(straight.sample(expected));
      expect(logits).toEqual(expected);
    }),
  );
});

test("a bias of 100 forces an unlikely token", () => {
  const forced = sampling({ logitBias: [[4, 100]] });
  expect(new Set(draws(forced, LOGITS, 100))).toEqual(new Set([4]));
});

test.each([0, 1])(
  "banned ids are never drawn at temperature %d, whatever the bias",
  (temperature) => {
    const options = sampling({ temperature, logitBias: [[2, 100]] });
    const sampler = new Sampler(options, [], [2, 5]);
    for (let i = 0; i < 200; i++) {
      const token = sampler.sample(Float32Array.from(LOGITS));
      expect([2, 5]).not.toContain(token);
      sampler.accept(token);
    }
  },
);

test("tokens whose logits are not finite are never drawn", () => {
  const logits = [Number.NaN, 1, Number.NEGATIVE_INFINITY, 2];
  expect(new Sampler(GREEDY, []).sample(Float32Array.from(logits))).toBe(3);
  expect(new Set(draws(sampling(), logits, 100))).toEqual(new Set([1, 3]));
});

test.each([Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY])(
  "logits that are all %d are an error",
  (value) => {
    const logits = () => new Float32Array(3).fill(value);
    for (const options of [GREEDY, sampling(), sampling({ topK: 2 }), sampling({ topP: 0.5 })]) {
      expect(() => new Sampler(options, []).sample(logits())).toThrow("no logit is finite");
    }
  },
);

test("argmax ignores NaN", () => {
  expect(argmax(Float32Array.of(Number.NaN, -5, Number.NaN, -4))).toBe(3);
});
