import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { combineLogits } from "../../../worker/decode/combine.ts";
import { Guard, type Guards } from "../../../worker/decode/guards.ts";
import { softmax } from "../../support/sampling.ts";

const VOCAB = 16;
const row = fc
  .array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: VOCAB, maxLength: VOCAB })
  .map((logits) => Float32Array.from(logits));
const alphas = fc.double({ min: 0.01, max: 4, noNaN: true });
const inputs = fc.record({ base: row, expert: row, antiexpert: row, alpha: alphas });
type Input = Readonly<Record<"base" | "expert" | "antiexpert", Float32Array>> & { alpha: number };

function steer({ base, expert, antiexpert, alpha }: Input, guards: Guards) {
  const out = new Float32Array(VOCAB);
  return { out, left: new Guard(guards, VOCAB).steer(out, base, expert, antiexpert, alpha) };
}

function unguarded({ base, expert, antiexpert, alpha }: Input, strength = alpha): Float32Array {
  const out = new Float32Array(VOCAB);
  combineLogits(out, base, expert, antiexpert, strength);
  return out;
}

/** KL(steered || base), the slow way. */
function divergence(steered: Float32Array, base: Float32Array): number {
  const [p, q] = [softmax([...steered]), softmax([...base])];
  return p.reduce(
    (sum, share, i) => (share === 0 ? sum : sum + share * Math.log(share / q[i]!)),
    0,
  );
}

/** The base's smallest set of likeliest tokens with this mass, the slow way. */
function nucleusOf(base: Float32Array, mass: number): Set<number> {
  const shares = softmax([...base]);
  const ranked = [...shares.keys()].sort((a, b) => base[b]! - base[a]! || a - b);
  const kept = new Set<number>();
  let sum = 0;
  for (const id of ranked) {
    if (sum >= mass - 1e-9) break;
    kept.add(id);
    sum += shares[id]!;
  }
  return kept;
}

test("without a guard that acts, the logits are those of the formula", () => {
  fc.assert(
    fc.property(inputs, (input) => {
      for (const guards of [{}, { baseNucleus: 1 }, { klBudget: 1e3 }]) {
        const { out, left } = steer(input, guards);
        expect(left).toBe(input.alpha);
        expect(out).toEqual(unguarded(input));
      }
    }),
  );
});

test("a negative alpha steers as if expert and antiexpert changed places, within the same guards", () => {
  const guards = { baseNucleus: 0.9, klBudget: 0.5, fallback: 0.1 };
  fc.assert(
    fc.property(inputs, (input) => {
      const { expert, antiexpert, alpha } = input;
      const { out, left } = steer(input, guards);
      const swapped = { ...input, expert: antiexpert, antiexpert: expert, alpha: -alpha };
      expect(steer(swapped, guards)).toEqual({ out, left: left === 0 ? 0 : -left });
    }),
  );
});

test("alpha 0 is the base itself, whatever the guards", () => {
  fc.assert(
    fc.property(inputs, (input) => {
      const guards = { baseNucleus: 0.1, klBudget: 0.1, fallback: 0.1 };
      expect(steer({ ...input, alpha: 0 }, guards)).toEqual({ out: input.base, left: 0 });
    }),
  );
});

test("base nucleus: what it holds is steered, the rest cannot come out", () => {
  fc.assert(
    fc.property(inputs, fc.double({ min: 0.05, max: 0.95, noNaN: true }), (input, mass) => {
      const { out, left } = steer(input, { baseNucleus: mass });
      const kept = nucleusOf(input.base, mass);
      const reference = unguarded(input).map((logit, id) => (kept.has(id) ? logit : -Infinity));
      expect(left).toBe(input.alpha);
      expect(out).toEqual(reference);
    }),
  );
});

describe("KL budget", () => {
  const budgets = fc.double({ min: 0.001, max: 5, noNaN: true });

  test("is kept, and used up where the shift would exceed it", () => {
    fc.assert(
      fc.property(inputs, budgets, (input, klBudget) => {
        const { out, left } = steer(input, { klBudget });
        const kl = divergence(out, input.base);
        const whole = divergence(unguarded(input), input.base);
        expect(kl).toBeLessThanOrEqual(klBudget + 1e-6);
        expect(kl).toBeGreaterThanOrEqual(Math.min(whole, klBudget) * (1 - 1e-3) - 1e-5);
        expect(out).toEqual(unguarded(input, left));
      }),
      { numRuns: 500 },
    );
  });

  /** The largest alpha within a budget, the slow way. */
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
        const { left } = steer(input, { klBudget });
        // An alpha is as exact as its KL: where the shift is saturated, many have the same.
        const slack = 2e-4 * klBudget + 2e-6;
        expect(left).toBeGreaterThanOrEqual(bisect(input, klBudget - slack) * (1 - 1e-6));
        expect(left).toBeLessThanOrEqual(bisect(input, klBudget + slack) * (1 + 1e-6));
      }),
      { numRuns: 500 },
    );
  });

  test("hardly depends on the last bits of the logits", () => {
    fc.assert(
      fc.property(inputs, budgets, fc.gen(), (input, klBudget, gen) => {
        const noisy = (logits: Float32Array) =>
          logits.map((logit) => logit + gen(fc.double, { min: -1e-5, max: 1e-5, noNaN: true }));
        const other = { ...input, base: noisy(input.base), expert: noisy(input.expert) };
        const shares = [input, other].map((one) => softmax([...steer(one, { klBudget }).out]));
        const moved = shares[0]!.map((share, id) => Math.abs(share - shares[1]![id]!));
        expect(Math.max(...moved)).toBeLessThan(1e-3);
      }),
      { numRuns: 500 },
    );
  });

  test("counts what a base nucleus costs; where that is too much, the base comes out whole", () => {
    const mass = fc.double({ min: 0.05, max: 0.95, noNaN: true });
    fc.assert(
      fc.property(inputs, mass, budgets, (input, baseNucleus, klBudget) => {
        const { out, left } = steer(input, { baseNucleus, klBudget });
        expect(divergence(out, input.base)).toBeLessThanOrEqual(klBudget + 1e-6);
        expect(left === 0 ? out : input.base).toEqual(input.base);
      }),
    );
  });
});

test("fallback: the base where expert and antiexpert differ by less than the threshold", () => {
  fc.assert(
    fc.property(inputs, fc.double({ min: 0.01, max: 1, noNaN: true }), (input, fallback) => {
      const [expert, antiexpert] = [softmax([...input.expert]), softmax([...input.antiexpert])];
      const gaps = expert.map((share, id) => Math.abs(share - antiexpert[id]!));
      const distance = gaps.reduce((sum, gap) => sum + gap) / 2;
      fc.pre(Math.abs(distance - fallback) > 1e-5);
      const expected = distance < fallback ? input.base : unguarded(input);
      expect(steer(input, { fallback }).out).toEqual(expected);
    }),
  );
});

test("a pair that is one model falls back at any threshold", () => {
  const base = Float32Array.of(...Array.from({ length: VOCAB }, (_, i) => i / 3));
  const pair = base.map((logit) => -logit);
  const input = { base, expert: pair, antiexpert: pair, alpha: 1 };
  expect(steer(input, { fallback: 1e-6 })).toEqual({ out: base, left: 0 });
});
