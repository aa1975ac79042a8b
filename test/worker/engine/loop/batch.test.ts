/** The decode loop: one sequence, several, resumed ones, failures. */
import { describe, expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";
import {
  EOS,
  NO_EOS,
  PROMPTS,
  generateRequest,
  runSteps,
  runTokens,
  vectorModels,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { passthroughCopyOf } from "../../../support/model-folder.ts";

const VOCAB = 20;
const PLAIN = { speculate: false } as const;
const llama = await vectorModels("llama", 128);
const gemma = await vectorModels("gemma2", 128, passthroughCopyOf);

describe("one generation", () => {
  test("prefills each model with its own prompt, then decodes the same tokens in all, one by one", async () => {
    const models = fakeModels(VOCAB);
    const options = { models, maxTokens: 4, sampling: { logitBias: [NO_EOS] } };
    const tokens = await runTokens(options, PLAIN);
    expect(tokens).toHaveLength(4);
    for (const role of ["base", "expert", "antiexpert"] as const) {
      const expected = [...PROMPTS[role], ...tokens.slice(0, -1)];
      expect(models[role].tokenRuns.flat()).toEqual(expected);
      // One prefill, which gives the first token, then one run for each token.
      expect(models[role].batchSizes).toEqual([1, 1, 1]);
    }
  });

  test("exposes the steered logits as they are before penalties and bias", async () => {
    const logits = (salt: number, ids: readonly number[]) => noiseLogits(salt, VOCAB)(ids);
    const [base, expert] = [logits(1, PROMPTS.base), logits(2, PROMPTS.expert)];
    const antiexpert = logits(3, PROMPTS.antiexpert);
    const options = {
      models: fakeModels(VOCAB),
      alpha: 0.5,
      sampling: { logitBias: [[3, 9] as const], repetitionPenalty: 2 },
    };
    const first = await generate(generateRequest(options), PLAIN).next();
    const steered = Array.from(base, (logit, id) => logit + 0.5 * (expert[id]! - antiexpert[id]!));
    expect([...first.value!.sequence.logits]).toEqual(steered.map(Math.fround));
  });

  test("opens neither expert nor antiexpert at alpha 0", async () => {
    const models = fakeModels(VOCAB);
    await runSteps({ models, alpha: 0 });
    expect([
      models.base.openedCount,
      models.expert.openedCount,
      models.antiexpert.openedCount,
    ]).toEqual([1, 0, 0]);
  });

  test.each([0, 1])("fails if a model has too few logits, at alpha %d", async (alpha) => {
    const models = { ...fakeModels(VOCAB), base: new FakeDecoder(noiseLogits(1, VOCAB - 1)) };
    const reason = /A model returned 19 logits; the vocabulary has 20 tokens/;
    await expect(runSteps({ models, alpha })).rejects.toThrow(reason);
    expect(models.base.openCount).toBe(0);
  });

  test("never samples a token of the padding", async () => {
    const padded = (ids: readonly number[]) => {
      const logits = noiseLogits(1, VOCAB + 4)(ids);
      return logits.fill(50, VOCAB);
    };
    const models = { ...fakeModels(VOCAB), base: new FakeDecoder(padded) };
    for (const alpha of [0, 1]) {
      const tokens = await runTokens({ models, alpha, sampling: { logitBias: [NO_EOS] } });
      expect(Math.max(...tokens)).toBeLessThan(VOCAB);
    }
  });

  test.each([true, false])(
    "closes its sequences when it ends (speculative: %s)",
    async (speculate) => {
      const models = fakeModels(VOCAB);
      await runSteps({ models }, { speculate });
      expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
        0, 0, 0,
      ]);
    },
  );

  test("closes its sequences when the caller stops reading early", async () => {
    const models = fakeModels(VOCAB);
    for await (const _ of generate(generateRequest({ models }))) break;
    expect(models.base.openedCount).toBe(1);
    expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
      0, 0, 0,
    ]);
  });

  test("closes its sequences when a model throws", async () => {
    const throwing = new FakeDecoder(() => {
      throw new Error("out of memory");
    });
    const models = { ...fakeModels(VOCAB), expert: throwing };
    await expect(runSteps({ models })).rejects.toThrow("out of memory");
    expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
      0, 0, 0,
    ]);
  });
});

describe("a run that resumes", () => {
  const variants: [name: string, options: RequestOptions["sampling"]][] = [
    ["greedy", { temperature: 0, logitBias: [NO_EOS] }],
    ["sampled", { seed: 11, logitBias: [NO_EOS] }],
    [
      "sampled with penalties",
      { seed: 14, topP: 0.9, repetitionPenalty: 1.3, frequencyPenalty: 0.5, presencePenalty: -0.2 },
    ],
  ];

  test.each(variants)(
    "continues like an uninterrupted one, from every position: %s",
    async (_, sampling) => {
      const options = () => ({ models: fakeModels(VOCAB), sampling: sampling!, stop: ["zz"] });
      const whole = await runSteps(options(), PLAIN);
      const tokens = whole.map(({ token }) => token);
      expect(tokens.length).toBeGreaterThan(5);
      for (let cut = 0; cut < whole.length; cut++) {
        const resume = tokens.slice(0, cut);
        expect(await runSteps({ ...options(), resume }, PLAIN)).toEqual(whole.slice(cut));
        expect(await runSteps({ ...options(), resume })).toEqual(whole.slice(cut));
      }
    },
  );

  test.each([
    ["external", llama],
    ["passthrough", gemma],
  ])(
    "continues like an uninterrupted one, with %s KV caches",
    { timeout: 30_000 },
    async (_, models) => {
      for (const temperature of [0, 1]) {
        const options = { models, sampling: { temperature, seed: 3, logitBias: [NO_EOS] } };
        const whole = await runSteps(options, PLAIN);
        expect(whole).toHaveLength(24);
        for (const cut of [1, 2, 6, 13, 20, 23]) {
          const resume = whole.slice(0, cut).map(({ token }) => token);
          expect(await runSteps({ ...options, resume })).toEqual(whole.slice(cut));
        }
      }
    },
  );

  test.each([
    ["at an end token", [7, EOS], 24],
    ["at the token limit", [7, 8, 9], 3],
    ["at a stop string", [7, 25, 25], 24],
  ])("generates nothing if the resumed tokens end the output %s", async (_, resume, maxTokens) => {
    const models = fakeModels(VOCAB);
    expect(await runSteps({ models, resume, maxTokens, stop: ["zz"] })).toEqual([]);
    expect(models.base.openedCount).toBe(0);
  });
});

test("prefilled sequences share one run of each model", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  for (const alpha of [1, 0, 1]) {
    batch.add(generateRequest({ models, alpha, sampling: { logitBias: [NO_EOS] } }));
  }
  // After these steps, all prompts are prefilled.
  for (let i = 0; i < 5; i++) await batch.step();
  models.base.batchSizes.length = models.expert.batchSizes.length = 0;
  await batch.step();
  expect([models.base.batchSizes, models.expert.batchSizes]).toEqual([[3], [2]]);
});

test("a long prompt delays the other sequences by one chunk per step, not by the whole prompt", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  const options = { models, alpha: 0, sampling: { logitBias: [NO_EOS] }, maxTokens: 200 };
  // How many steps the prompts take depends on the time of their chunks.
  const short = batch.add(generateRequest({ ...options, maxTokens: 20_000 }))!;
  await batch.step();
  const prompts = { ...PROMPTS, base: Array.from({ length: 1000 }, () => 1) };
  const long = [1, 2].map(() => batch.add(generateRequest({ ...options, prompts }))!);
  for (let step = 1; long.some(({ tokens }) => tokens.length === 0); step++) {
    await batch.step();
    // A step that gives a first token gives no other.
    const startedCount = long.filter(({ tokens }) => tokens.length > 0).length;
    expect(short.tokens).toHaveLength(1 + step - startedCount);
  }
  const chunks = models.base.prefilledTokens.slice(1).map(({ length }) => length);
  expect(chunks.reduce((sum, length) => sum + length)).toBe(2 * 1000);
  // The last chunk has the last token too.
  expect(Math.max(...chunks)).toBeLessThanOrEqual(129);
});

test("a short prompt behind a long one does not wait for all of it", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  const options = { models, alpha: 0, sampling: { logitBias: [NO_EOS] } };
  const prompts = { ...PROMPTS, base: Array.from({ length: 2_000 }, () => 1) };
  const long = batch.add(generateRequest({ ...options, prompts }))!;
  const short = [1, 2].map(() => batch.add(generateRequest(options))!);
  while (short.some(({ tokens }) => tokens.length === 0)) await batch.step();
  expect(long.tokens).toEqual([]);
});

describe("a sequence without a finite logit", () => {
  /** Sequences that begin with token 13 get NaN logits from their fifth token on. */
  const failing = (ids: readonly number[]) =>
    ids[0] === 13 && ids.length > 4
      ? new Float32Array(VOCAB).fill(Number.NaN)
      : noiseLogits(1, VOCAB)(ids);

  test.each([true, false])(
    "fails alone, and the others continue (speculative: %s)",
    async (speculate) => {
      const models = { ...fakeModels(VOCAB), base: new FakeDecoder(failing) };
      const sampling = { logitBias: [NO_EOS] };
      const valid = (alpha: number) => ({ models, alpha, sampling });
      const batch = new Batch({ speculate });
      const sequences = [
        batch.add(generateRequest(valid(1)))!,
        batch.add(generateRequest({ ...valid(1), prompts: { ...PROMPTS, base: [13] } }))!,
        batch.add(generateRequest(valid(0)))!,
      ];
      const failed: unknown[] = [];
      while (batch.size > 0) {
        for (const step of await batch.step()) {
          if ("error" in step) failed.push(step.sequence, step.error.message);
        }
      }
      expect(failed).toEqual([sequences[1], "No token can be sampled: no logit is finite"]);
      expect(sequences[0]!.tokens).toEqual(await runTokens(valid(1)));
      expect(sequences[2]!.tokens).toEqual(await runTokens(valid(0)));
      expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
        0, 0, 0,
      ]);
    },
  );
});
