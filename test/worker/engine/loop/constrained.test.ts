/** Sequences with a response format: the output matches it, and nothing else about a sequence changes. */
import * as fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import { GrammarConstraint } from "../../../../worker/engine/grammar/constraint.ts";
import { TokenTrie } from "../../../../worker/engine/grammar/token-trie.ts";
import { FakeDecoder, fakeClock, noiseLogits } from "../../../support/fake-decoder.ts";
import { matcherOf } from "../../../support/grammar.ts";
import {
  EOS,
  NO_EOS,
  generateRequest,
  runSteps,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { softmax } from "../../../support/sampling.ts";

const VOCAB = 12;
const PLAIN = { speculate: false } as const;
const SAME = { base: [1, 2, 3], expert: [1, 2, 3], antiexpert: [1, 2, 3] };
/** The letters of the tokens in support/decode-loop.ts. */
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

/** @param distance how much the three models differ */
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

// The length of drafts depends on the duration of runs, which the fake models decide.
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

const requestOptions = ({ pattern, ...rest }: Options, distance: number): RequestOptions => ({
  ...rest,
  prompts: SAME,
  models: models(distance),
  constrain: constrainTo(pattern),
});

test("drafts and resuming change nothing; the output matches the format, unless the token limit ends it", async () => {
  let drafted = 0;
  await fc.assert(
    fc.asyncProperty(
      options,
      fc.constantFrom(0, 0.2, 5),
      fc.nat(),
      async (options, distance, at) => {
        const whole = await runSteps(requestOptions(options, distance), PLAIN);
        const cut = at % whole.length;
        for (const earlier of [[], whole.slice(0, cut)]) {
          const resume = earlier.map(({ token }) => token);
          const single = requestOptions(options, distance);
          expect(await runSteps({ ...single, resume })).toEqual(whole.slice(earlier.length));
          drafted += (single.models.base as FakeDecoder).scoredTokens.length;
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

test("a complete output ends without another step, even if the model would never end it", async () => {
  const single = {
    models: models(1),
    constrain: constrainTo("(?:bcd|bce|bcf){6}"),
    sampling: { logitBias: [NO_EOS] },
  };
  const steps = await runSteps({ ...single, maxTokens: 18 });
  expect(steps).toHaveLength(18);
  expect(steps.at(-1)!.finish).toBe("stop");
});

test("sequences of one batch, with and without a format, give the same tokens as alone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(options, { minLength: 2, maxLength: 5 }), async (plans) => {
      const shared = models(1);
      const allOptions = plans.map((plan, i): RequestOptions => {
        const { constrain, ...withoutFormat } = { ...requestOptions(plan, 1), models: shared };
        return i % 2 === 0 ? { ...withoutFormat, constrain: constrain! } : withoutFormat;
      });
      const batch = new Batch();
      const tokens = new Map(
        allOptions.map((single) => [batch.add(generateRequest(single)), [] as number[]]),
      );
      while (batch.size > 0) {
        for (const step of await batch.step()) {
          if ("error" in step) throw step.error;
          tokens.get(step.sequence)!.push(step.token);
        }
      }
      const together = [...tokens.values()];
      for (const [i, single] of allOptions.entries()) {
        const alone = await runSteps(single, PLAIN);
        expect(together[i]).toEqual(alone.map(({ token }) => token));
      }
    }),
    { numRuns: 60 },
  );
});

describe("the masked probability", () => {
  test("is the steered probability of the forbidden tokens", async () => {
    const constrain = constrainTo("[b-k]{3,20}");
    const steps = generate(generateRequest({ models: models(1), constrain, maxTokens: 10 }), PLAIN);
    const shadow = constrain();
    let count = 0;
    for await (const { token, sequence, analysis } of steps) {
      const allowed = new Float32Array(VOCAB);
      shadow.mask(allowed);
      const probabilities = softmax([...sequence.logits]);
      const forbidden = probabilities.reduce(
        (sum, p, id) => (allowed[id] === 0 ? sum : sum + p),
        0,
      );
      expect(analysis?.masked).toBeCloseTo(forbidden, 3);
      shadow.accept(token);
      count++;
    }
    expect(count).toBeGreaterThan(2);
  });

  test("is absent without a format", async () => {
    for await (const { analysis } of generate(generateRequest({ models: models(1) }), PLAIN)) {
      expect(analysis).toBeNull();
    }
  });

  test("may be 1 after a guard; then the base logits are used", async () => {
    await fc.assert(
      fc.asyncProperty(options, async (options) => {
        const guards = { baseNucleus: 0.01 };
        const single = { ...requestOptions({ ...options, alpha: 1 }, 5), guards };
        for (const step of await runSteps(single)) expect(step.token).toBeLessThan(VOCAB);
      }),
      { numRuns: 50 },
    );
  });
});
