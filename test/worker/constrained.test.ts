/** Rows with a response format: what comes out keeps to it, and nothing else about a row changes. */
import * as fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Batch, generate } from "../../worker/generate.ts";
import { GrammarConstraint } from "../../worker/grammar/constraint.ts";
import { TokenTrie } from "../../worker/grammar/token-trie.ts";
import { FakeDecoder, fakeClock, noiseLogits } from "../support/fake-decoder.ts";
import { matcherOf } from "../support/grammar.ts";
import { EOS, NO_EOS, request, stepsOf, type RowOptions } from "../support/rows.ts";
import { softmax } from "../support/sampling.ts";

const VOCAB = 12;
const PLAIN = { speculate: false } as const;
const SAME = { base: [1, 2, 3], expert: [1, 2, 3], antiexpert: [1, 2, 3] };
/** The letters that the tokens of rows.ts stand for. */
const trie = new TokenTrie(
  Array.from({ length: VOCAB }, (_, id) => (id === EOS ? null : Uint8Array.of(97 + id))),
);
const PATTERNS = [
  "[b-k]{3,20}",
  "(?:bc|d)*e+f",
  "b(?:c|d*e)*k?",
  "(?:bcd|bce|bcf){6}",
  "j*",
] as const;
const matchers = new Map(
  PATTERNS.map((pattern) => [pattern, matcherOf({ type: "regex", pattern }, trie)]),
);
const constrainTo = (pattern: (typeof PATTERNS)[number]) => () =>
  new GrammarConstraint(matchers.get(pattern)!, new Set([EOS]));

/** @param distance by how much the three models differ */
function models(distance: number) {
  const own = (salt: number) => (ids: readonly number[]) => {
    const noise = noiseLogits(salt, VOCAB)(ids);
    return noiseLogits(1, VOCAB)(ids.slice(-2)).map((logit, id) => logit + distance * noise[id]!);
  };
  return {
    base: new FakeDecoder(own(2), { runMs: 10 }),
    expert: new FakeDecoder(own(3), { runMs: 1 }),
    antiexpert: new FakeDecoder(own(4), { runMs: 1 }),
    vocabSize: VOCAB,
  };
}

// How far drafts go depends on what runs take, which fake models decide.
beforeEach(() => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
});

const options = fc.record({
  pattern: fc.constantFrom(...PATTERNS),
  alpha: fc.constantFrom(0, 1, 0.5),
  sampling: fc.record({
    temperature: fc.constantFrom(0, 0.7, 1, 2),
    seed: fc.nat(),
    topK: fc.constantFrom(0, 3),
    topP: fc.constantFrom(1, 0.5),
    repetitionPenalty: fc.constantFrom(1, 1.4),
    logitBias: fc.constantFrom([], [NO_EOS]),
  }),
  maxTokens: fc.integer({ min: 1, max: 30 }),
});
type Options = typeof options extends fc.Arbitrary<infer T> ? T : never;

const rowOf = ({ pattern, ...rest }: Options, distance: number): RowOptions => ({
  ...rest,
  prompts: SAME,
  models: models(distance),
  constrain: constrainTo(pattern),
});

test("drafts change nothing, from any cut; what ends by itself matches, and the limit cuts the rest", async () => {
  let drafted = 0;
  await fc.assert(
    fc.asyncProperty(
      options,
      fc.constantFrom(0, 0.2, 5),
      fc.nat(),
      async (options, distance, at) => {
        const whole = await stepsOf(rowOf(options, distance), PLAIN);
        const cut = at % whole.length;
        for (const earlier of [[], whole.slice(0, cut)]) {
          const resume = earlier.map(({ token }) => token);
          const row = rowOf(options, distance);
          expect(await stepsOf({ ...row, resume })).toEqual(whole.slice(earlier.length));
          drafted += (row.models.base as FakeDecoder).scored.length;
        }
        const text = whole
          .map((step) => step.text)
          .join("")
          .replaceAll("a", "");
        const matches = new RegExp(`^(?:${options.pattern})$`).test(text);
        const isCut = whole.at(-1)!.finish === "length";
        expect({ text, fine: isCut ? whole.length === options.maxTokens : matches }).toEqual({
          text,
          fine: true,
        });
      },
    ),
    { numRuns: 300 },
  );
  expect(drafted).toBeGreaterThan(200);
});

test("a finished text ends without another step, also where the model would never end it", async () => {
  const row = {
    models: models(1),
    constrain: constrainTo("(?:bcd|bce|bcf){6}"),
    sampling: { logitBias: [NO_EOS] },
  };
  const steps = await stepsOf({ ...row, maxTokens: 18 });
  expect(steps).toHaveLength(18);
  expect(steps.at(-1)!.finish).toBe("stop");
});

test("neighbours with a format, and without, are as they are alone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(options, { minLength: 2, maxLength: 5 }), async (plans) => {
      const shared = models(1);
      const rows = plans.map((plan, i): RowOptions => {
        const { constrain, ...row } = { ...rowOf(plan, 1), models: shared };
        return i % 2 === 0 ? { ...row, constrain: constrain! } : row;
      });
      const batch = new Batch();
      const tokens = new Map(rows.map((row) => [batch.add(request(row)), [] as number[]]));
      while (batch.size > 0) {
        for (const step of await batch.step()) {
          if ("error" in step) throw step.error;
          tokens.get(step.row)!.push(step.token);
        }
      }
      const together = [...tokens.values()];
      for (const [i, row] of rows.entries()) {
        const alone = await stepsOf(row, PLAIN);
        expect(together[i]).toEqual(alone.map(({ token }) => token));
      }
    }),
    { numRuns: 60 },
  );
});

describe("the mass that is lost", () => {
  test("is the steered probability of what may not come", async () => {
    const constrain = constrainTo("[b-k]{3,20}");
    const told = generate(request({ models: models(1), constrain, maxTokens: 10 }), PLAIN);
    const shadow = constrain();
    let count = 0;
    for await (const { token, row, report } of told) {
      const allowed = new Float32Array(VOCAB);
      shadow.mask(allowed);
      const probabilities = softmax([...row.logits]);
      const lost = probabilities.reduce((sum, p, id) => (allowed[id] === 0 ? sum : sum + p), 0);
      expect(report?.masked).toBeCloseTo(lost, 3);
      shadow.accept(token);
      count++;
    }
    expect(count).toBeGreaterThan(2);
  });

  test("is not told of rows without a format", async () => {
    for await (const { report } of generate(request({ models: models(1) }), PLAIN)) {
      expect(report).toBeNull();
    }
  });

  test("may be all that a guard leaves: then the base has the word", async () => {
    await fc.assert(
      fc.asyncProperty(options, async (options) => {
        const guards = { baseNucleus: 0.01 };
        const row = { ...rowOf({ ...options, alpha: 1 }, 5), guards };
        for (const step of await stepsOf(row)) expect(step.token).toBeLessThan(VOCAB);
      }),
      { numRuns: 50 },
    );
  });
});
