/** Guards against slow reference implementations. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { combineLogits } from "../../../../worker/engine/decode/combine.ts";
import { GuardedCombiner, type GuardOptions } from "../../../../worker/engine/decode/guards.ts";
import { softmax } from "../../../support/sampling.ts";

const VOCAB = 16;
const logits = fc
  .array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: VOCAB, maxLength: VOCAB })
  .map((logits) => Float32Array.from(logits));
const alphas = fc.double({ min: 0.01, max: 4, noNaN: true });
const inputs = fc.record({ base: logits, expert: logits, antiexpert: logits, alpha: alphas });
type Input = Readonly<Record<"base" | "expert" | "antiexpert", Float32Array>> & { alpha: number };

function combine({ base, expert, antiexpert, alpha }: Input, guards: GuardOptions) {
  const out = new Float32Array(VOCAB);
  return {
    out,
    appliedAlpha: new GuardedCombiner(guards, VOCAB).combine(out, base, expert, antiexpert, alpha),
  };
}

function unguarded({ base, expert, antiexpert, alpha }: Input, strength = alpha): Float32Array {
  const out = new Float32Array(VOCAB);
  combineLogits(out, base, expert, antiexpert, strength);
  return out;
}

/** Reference for KL(steered || base). */
function divergence(steered: Float32Array, base: Float32Array): number {
  const [p, q] = [softmax([...steered]), softmax([...base])];
  return p.reduce(
    (sum, share, i) => (share === 0 ? sum : sum + share * Math.log(share / q[i]!)),
    0,
  );
}

/** Reference for the base nucleus: the smallest set of most likely tokens with this probability mass. */
function referenceNucleus(base: Float32Array, mass: number): Set<number> {
  const shares = softmax([...base]);
  const ranked = [...shares.keys()].sort((a, b) => base[b]! - base[a]! || a - b);
  const allowed = new Set<number>();
  let sum = 0;
  for (const id of ranked) {
    if (sum >= mass - 1e-9) break;
    allowed.add(id);
    sum += shares[id]!;
  }
  return allowed;
}

test("a guard that does not act leaves the plain formula", () => {
  fc.assert(
    fc.property(inputs, (input) => {
      for (const guards of [{}, { baseNucleus: 1 }, { klBudget: 1e3 }]) {
        const { out, appliedAlpha } = combine(input, guards);
        expect(appliedAlpha).toBe(input.alpha);
        expect(out).toEqual(unguarded(input));
      }
    }),
  );
});

test("a negative alpha is the same as swapping expert and antiexpert, with the same guards", () => {
  const guards = { baseNucleus: 0.9, klBudget: 0.5, fallback: 0.1 };
  fc.assert(
    fc.property(inputs, (input) => {
      const { expert, antiexpert, alpha } = input;
      const { out, appliedAlpha } = combine(input, guards);
      const swapped = { ...input, expert: antiexpert, antiexpert: expert, alpha: -alpha };
      expect(combine(swapped, guards)).toEqual({
        out,
        appliedAlpha: appliedAlpha === 0 ? 0 : -appliedAlpha,
      });
    }),
  );
});

test("alpha 0 gives the base logits with any guards", () => {
  fc.assert(
    fc.property(inputs, (input) => {
      const guards = { baseNucleus: 0.1, klBudget: 0.1, fallback: 0.1 };
      expect(combine({ ...input, alpha: 0 }, guards)).toEqual({ out: input.base, appliedAlpha: 0 });
    }),
  );
});

test("base nucleus: tokens inside are steered, tokens outside are masked", () => {
  fc.assert(
    fc.property(inputs, fc.double({ min: 0.05, max: 0.95, noNaN: true }), (input, mass) => {
      const { out, appliedAlpha } = combine(input, { baseNucleus: mass });
      const allowed = referenceNucleus(input.base, mass);
      const reference = unguarded(input).map((logit, id) => (allowed.has(id) ? logit : -Infinity));
      expect(appliedAlpha).toBe(input.alpha);
      expect(out).toEqual(reference);
    }),
  );
});

describe("KL budget", () => {
  const budgets = fc.double({ min: 0.001, max: 5, noNaN: true });

  test("holds, and is used fully if the shift would exceed it", () => {
    fc.assert(
      fc.property(inputs, budgets, (input, klBudget) => {
        const { out, appliedAlpha } = combine(input, { klBudget });
        const kl = divergence(out, input.base);
        const whole = divergence(unguarded(input), input.base);
        expect(kl).toBeLessThanOrEqual(klBudget + 1e-6);
        expect(kl).toBeGreaterThanOrEqual(Math.min(whole, klBudget) * (1 - 1e-3) - 1e-5);
        expect(out).toEqual(unguarded(input, appliedAlpha));
      }),
      { numRuns: 500 },
    );
  });

  /** Reference for the largest alpha within a budget. */
  function bisect(input: Input, budget: number): number {
    let [low, high] = [0, input.alpha];
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (divergence(unguarded(input, middle), input.base) > budget) high = middle;
      else low = middle;
    }
    return low;
  }

  test("finds the alpha that bisection finds", () => {
    fc.assert(
      fc.property(inputs, budgets, (input, klBudget) => {
        fc.pre(divergence(unguarded(input), input.base) > klBudget);
        const { appliedAlpha } = combine(input, { klBudget });
        // Alpha is only as exact as its KL: a saturated shift has the same KL for many alphas.
        const slack = 2e-4 * klBudget + 2e-6;
        expect(appliedAlpha).toBeGreaterThanOrEqual(bisect(input, klBudget - slack) * (1 - 1e-6));
        expect(appliedAlpha).toBeLessThanOrEqual(bisect(input, klBudget + slack) * (1 + 1e-6));
      }),
      { numRuns: 500 },
    );
  });

  test("hardly changes with the last bits of the logits", () => {
    fc.assert(
      fc.property(inputs, budgets, fc.gen(), (input, klBudget, gen) => {
        const noisy = (logits: Float32Array) =>
          logits.map((logit) => logit + gen(fc.double, { min: -1e-5, max: 1e-5, noNaN: true }));
        const other = { ...input, base: noisy(input.base), expert: noisy(input.expert) };
        const shares = [input, other].map((one) => softmax([...combine(one, { klBudget }).out]));
        const moved = shares[0]!.map((share, id) => Math.abs(share - shares[1]![id]!));
        expect(Math.max(...moved)).toBeLessThan(1e-3);
      }),
      { numRuns: 500 },
    );
  });

  test("includes the KL of a base nucleus; if that alone exceeds it, the result is the base logits", () => {
    const mass = fc.double({ min: 0.05, max: 0.95, noNaN: true });
    fc.assert(
      fc.property(inputs, mass, budgets, (input, baseNucleus, klBudget) => {
        const { out, appliedAlpha } = combine(input, { baseNucleus, klBudget });
        expect(divergence(out, input.base)).toBeLessThanOrEqual(klBudget + 1e-6);
        expect(appliedAlpha === 0 ? out : input.base).toEqual(input.base);
      }),
    );
  });
});

test("fallback: the base logits if expert and antiexpert differ by less than the threshold", () => {
  fc.assert(
    fc.property(inputs, fc.double({ min: 0.01, max: 1, noNaN: true }), (input, fallback) => {
      const [expert, antiexpert] = [softmax([...input.expert]), softmax([...input.antiexpert])];
      const gaps = expert.map((share, id) => Math.abs(share - antiexpert[id]!));
      const distance = gaps.reduce((sum, gap) => sum + gap) / 2;
      fc.pre(Math.abs(distance - fallback) > 1e-5);
      const expected = distance < fallback ? input.base : unguarded(input);
      expect(combine(input, { fallback }).out).toEqual(expected);
    }),
  );
});

test("equal expert and antiexpert fall back to the base at any threshold", () => {
  const base = Float32Array.of(...Array.from({ length: VOCAB }, (_, i) => i / 3));
  const pair = base.map((logit) => -logit);
  const input = { base, expert: pair, antiexpert: pair, alpha: 1 };
  expect(combine(input, { fallback: 1e-6 })).toEqual({ out: base, appliedAlpha: 0 });
});
