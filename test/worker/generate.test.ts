import { describe, expect, test } from "vitest";
import { Batch, generate } from "../../worker/generate.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../support/fake-decoder.ts";
import {
  EOS,
  NO_EOS,
  PROMPTS,
  request,
  stepsOf,
  tokensOf,
  vectorModels,
  type RowOptions,
} from "../support/rows.ts";

const VOCAB = 20;
const PLAIN = { speculate: false } as const;
const llama = await vectorModels("llama", 128);
const gemma = await vectorModels("gemma2", 128);

describe("one generation", () => {
  test("gives each model its own prompt, then all the same tokens, one by one", async () => {
    const models = fakeModels(VOCAB);
    const options = { models, maxTokens: 4, sampling: { logitBias: [NO_EOS] } };
    const tokens = await tokensOf(options, PLAIN);
    expect(tokens).toHaveLength(4);
    for (const role of ["base", "expert", "antiexpert"] as const) {
      const seen = [...PROMPTS[role], ...tokens.slice(0, -1)];
      expect(models[role].asked.flat()).toEqual(seen);
      // A run for the prompt but its last token, then one a token.
      expect(models[role].turns).toEqual([1, 1, 1, 1]);
    }
  });

  test("has the steered logits before penalties and bias", async () => {
    const logits = (salt: number, ids: readonly number[]) => noiseLogits(salt, VOCAB)(ids);
    const [base, expert] = [logits(1, PROMPTS.base), logits(2, PROMPTS.expert)];
    const antiexpert = logits(3, PROMPTS.antiexpert);
    const options = {
      models: fakeModels(VOCAB),
      alpha: 0.5,
      sampling: { logitBias: [[3, 9] as const], repetitionPenalty: 2 },
    };
    const first = await generate(request(options), PLAIN).next();
    const steered = Array.from(base, (logit, id) => logit + 0.5 * (expert[id]! - antiexpert[id]!));
    expect([...first.value!.row.logits]).toEqual(steered.map(Math.fround));
  });

  test("opens neither expert nor antiexpert at alpha 0", async () => {
    const models = fakeModels(VOCAB);
    await stepsOf({ models, alpha: 0 });
    expect([models.base.opened, models.expert.opened, models.antiexpert.opened]).toEqual([1, 0, 0]);
  });

  test.each([0, 1])("refuses logits that are too narrow at alpha %d", async (alpha) => {
    const models = { ...fakeModels(VOCAB), base: new FakeDecoder(noiseLogits(1, VOCAB - 1)) };
    const reason = /logits of 19.* for a vocabulary of 20/;
    await expect(stepsOf({ models, alpha })).rejects.toThrow(reason);
    expect(models.base.running).toBe(0);
  });

  test("never draws from padding", async () => {
    const padded = (ids: readonly number[]) => {
      const logits = noiseLogits(1, VOCAB + 4)(ids);
      return logits.fill(50, VOCAB);
    };
    const models = { ...fakeModels(VOCAB), base: new FakeDecoder(padded) };
    for (const alpha of [0, 1]) {
      const tokens = await tokensOf({ models, alpha, sampling: { logitBias: [NO_EOS] } });
      expect(Math.max(...tokens)).toBeLessThan(VOCAB);
    }
  });

  test.each([true, false])(
    "closes its sequences when it ends (speculating: %s)",
    async (speculate) => {
      const models = fakeModels(VOCAB);
      await stepsOf({ models }, { speculate });
      expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([
        0, 0, 0,
      ]);
    },
  );

  test("closes its sequences when its consumer leaves early", async () => {
    const models = fakeModels(VOCAB);
    for await (const _ of generate(request({ models }))) break;
    expect(models.base.opened).toBe(1);
    expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([
      0, 0, 0,
    ]);
  });

  test("closes its sequences when a model throws", async () => {
    const throwing = new FakeDecoder(() => {
      throw new Error("out of memory");
    });
    const models = { ...fakeModels(VOCAB), expert: throwing };
    await expect(stepsOf({ models })).rejects.toThrow("out of memory");
    expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([
      0, 0, 0,
    ]);
  });
});

describe("a run that takes over", () => {
  const variants: [name: string, options: RowOptions["sampling"]][] = [
    ["greedy", { temperature: 0, logitBias: [NO_EOS] }],
    ["sampled", { seed: 11, logitBias: [NO_EOS] }],
    [
      "sampled with penalties",
      { seed: 14, topP: 0.9, repetitionPenalty: 1.3, frequencyPenalty: 0.5, presencePenalty: -0.2 },
    ],
  ];

  test.each(variants)("goes on like an undisturbed one, at every cut: %s", async (_, sampling) => {
    const options = () => ({ models: fakeModels(VOCAB), sampling: sampling!, stop: ["zz"] });
    const whole = await stepsOf(options(), PLAIN);
    const tokens = whole.map(({ token }) => token);
    expect(tokens.length).toBeGreaterThan(5);
    for (let cut = 0; cut < whole.length; cut++) {
      const resume = tokens.slice(0, cut);
      expect(await stepsOf({ ...options(), resume }, PLAIN)).toEqual(whole.slice(cut));
      expect(await stepsOf({ ...options(), resume })).toEqual(whole.slice(cut));
    }
  });

  test.each([
    ["owned", llama],
    ["refed", gemma],
  ])("goes on like an undisturbed one with %s caches", { timeout: 30_000 }, async (_, models) => {
    for (const temperature of [0, 1]) {
      const options = { models, sampling: { temperature, seed: 3, logitBias: [NO_EOS] } };
      const whole = await stepsOf(options, PLAIN);
      expect(whole).toHaveLength(24);
      for (const cut of [1, 2, 6, 13, 20, 23]) {
        const resume = whole.slice(0, cut).map(({ token }) => token);
        expect(await stepsOf({ ...options, resume })).toEqual(whole.slice(cut));
      }
    }
  });

  test.each([
    ["at an end token", [7, EOS], 24],
    ["at the token limit", [7, 8, 9], 3],
    ["at a stop string", [7, 25, 25], 24],
  ])("generates nothing if the output had ended %s", async (_, resume, maxTokens) => {
    const models = fakeModels(VOCAB);
    expect(await stepsOf({ models, resume, maxTokens, stop: ["zz"] })).toEqual([]);
    expect(models.base.opened).toBe(0);
  });
});

test("rows that are ready share a run of each model", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  for (const alpha of [1, 0, 1]) {
    batch.add(request({ models, alpha, sampling: { logitBias: [NO_EOS] } }));
  }
  // One prompt is prefilled a step, and those of the first and third row have more than one token.
  for (let i = 0; i < 5; i++) await batch.step();
  models.base.turns.length = models.expert.turns.length = 0;
  await batch.step();
  expect([models.base.turns, models.expert.turns]).toEqual([[3], [2]]);
});

test("long prompts hold the other rows up by one chunk a step, and not by all of them", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  const options = { models, alpha: 0, sampling: { logitBias: [NO_EOS] } };
  const short = batch.add(request(options))!;
  await batch.step();
  const prompts = { ...PROMPTS, base: Array.from({ length: 1000 }, () => 1) };
  const long = [1, 2].map(() => batch.add(request({ ...options, prompts }))!);
  let prefilled = 0;
  for (let step = 1; long.some(({ tokens }) => tokens.length === 0); step++) {
    models.base.asked.length = 0;
    await batch.step();
    expect(short.tokens).toHaveLength(1 + step);
    // What is asked one by one is decoded.
    const chunks = models.base.asked.filter((ids) => ids.length > 1).flat();
    expect(chunks.length).toBeLessThan(200);
    prefilled += chunks.length;
  }
  expect(prefilled).toBe(2 * 999);
});

describe("a row without a finite logit", () => {
  /** Sequences that begin with 13 go mad at their fifth token. */
  const mad = (ids: readonly number[]) =>
    ids[0] === 13 && ids.length > 4
      ? new Float32Array(VOCAB).fill(Number.NaN)
      : noiseLogits(1, VOCAB)(ids);

  test.each([true, false])("fails alone (speculating: %s)", async (speculate) => {
    const models = { ...fakeModels(VOCAB), base: new FakeDecoder(mad) };
    const sampling = { logitBias: [NO_EOS] };
    const well = (alpha: number) => ({ models, alpha, sampling });
    const batch = new Batch({ speculate });
    const rows = [
      batch.add(request(well(1)))!,
      batch.add(request({ ...well(1), prompts: { ...PROMPTS, base: [13] } }))!,
      batch.add(request(well(0)))!,
    ];
    const failed: unknown[] = [];
    while (batch.size > 0) {
      for (const step of await batch.step()) {
        if ("error" in step) failed.push(step.row, step.error.message);
      }
    }
    expect(failed).toEqual([rows[1], "no finite logit to choose from"]);
    expect(rows[0]!.tokens).toEqual(await tokensOf(well(1)));
    expect(rows[2]!.tokens).toEqual(await tokensOf(well(0)));
    expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([
      0, 0, 0,
    ]);
  });
});
