import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { GumbelNoise } from "../../worker/decode/noise.ts";
import { Output } from "../../worker/decode/output.ts";
import { Sampler, type Sampling } from "../../worker/decode/sampler.ts";
import { generate, type Models, type Prompts, type Step } from "../../worker/generate.ts";
import { loadDecoder } from "../../worker/model/files.ts";
import { VECTORS } from "../support/model-folder.ts";
import { sampling } from "../support/sampling.ts";

const VOCAB = 20;
const EOS = 0;
const PROMPTS: Prompts = { base: [1, 2, 3], expert: [4], antiexpert: [5, 6] };

/** Logits are noise that all ids so far decide. It notes what it was asked. */
class FakeModel {
  readonly asked: number[][] = [];
  opened = 0;
  readonly #salt: number;
  readonly #width: number;

  constructor(salt: number, width = VOCAB) {
    this.#salt = salt;
    this.#width = width;
  }

  open() {
    this.opened++;
    let state = this.#salt;
    return {
      forward: async (ids: readonly number[]) => {
        this.asked.push([...ids]);
        for (const id of ids) state = (state * 31 + id + 1) % 1_000_003;
        const noise = new GumbelNoise(state);
        return Float32Array.from({ length: this.#width }, (_, token) => noise.at(token));
      },
    };
  }
}

function fakeModels() {
  return {
    base: new FakeModel(1),
    expert: new FakeModel(2),
    antiexpert: new FakeModel(3),
    vocabSize: VOCAB,
  };
}

interface Run {
  readonly models: Models;
  readonly prompts?: Prompts;
  readonly alpha?: number;
  readonly sampling?: Partial<Sampling>;
  readonly resume?: readonly number[];
  readonly maxTokens?: number;
}

function run({ models, prompts = PROMPTS, alpha = 1, resume = [], maxTokens = 24, ...rest }: Run) {
  return generate(models, {
    prompts,
    alpha,
    resume,
    sampler: new Sampler(sampling(rest.sampling), prompts.base),
    output: new Output({
      decode: (ids) => ids.map((id) => String.fromCodePoint(97 + id)).join(""),
      stop: ["zz"],
      eosIds: new Set([EOS]),
      maxTokens,
    }),
  });
}

/** The steps, without the logits, which the next step overwrites. */
async function stepsOf(options: Run): Promise<Omit<Step, "logits">[]> {
  const steps: Omit<Step, "logits">[] = [];
  for await (const { token, text, finish } of run(options)) steps.push({ token, text, finish });
  return steps;
}

test("each model gets its own prompt, then all get the same tokens, one by one", async () => {
  const models = fakeModels();
  const steps = await stepsOf({ models, maxTokens: 4, sampling: { logitBias: [[EOS, -100]] } });
  const fed = steps.slice(0, -1).map(({ token }) => [token]);
  expect(models.base.asked).toEqual([PROMPTS.base, ...fed]);
  expect(models.expert.asked).toEqual([PROMPTS.expert, ...fed]);
  expect(models.antiexpert.asked).toEqual([PROMPTS.antiexpert, ...fed]);
});

test("a step's logits are the steered ones, before penalties and bias", async () => {
  const models = fakeModels();
  const [base, expert, antiexpert] = await Promise.all([
    fakeModels().base.open().forward(PROMPTS.base),
    fakeModels().expert.open().forward(PROMPTS.expert),
    fakeModels().antiexpert.open().forward(PROMPTS.antiexpert),
  ]);
  const options = { models, alpha: 0.5, sampling: { logitBias: [[3, 9] as const] } };
  const first = await run(options).next();
  const steered = Array.from(base, (logit, id) => logit + 0.5 * (expert[id]! - antiexpert[id]!));
  expect([...first.value!.logits]).toEqual(steered.map(Math.fround));
});

test("alpha 0 opens neither expert nor antiexpert", async () => {
  const models = fakeModels();
  await stepsOf({ models, alpha: 0 });
  expect([models.base.opened, models.expert.opened, models.antiexpert.opened]).toEqual([1, 0, 0]);
});

test.each([0, 1])("logits that are too narrow are refused at alpha %d", async (alpha) => {
  const models = { ...fakeModels(), base: new FakeModel(1, VOCAB - 1) };
  await expect(stepsOf({ models, alpha })).rejects.toThrow(/logits of 19.* for a vocabulary of 20/);
});

describe("a run that takes over", () => {
  const variants: [name: string, options: Partial<Sampling>][] = [
    ["greedy", { temperature: 0, logitBias: [[EOS, -100]] }],
    ["sampled", { seed: 11, logitBias: [[EOS, -100]] }],
    [
      "sampled with penalties",
      { seed: 12, topP: 0.9, repetitionPenalty: 1.3, frequencyPenalty: 0.5, presencePenalty: -0.2 },
    ],
  ];

  test.each(variants)("goes on like an undisturbed one, at every cut: %s", async (_, sampling) => {
    const whole = await stepsOf({ models: fakeModels(), sampling });
    const tokens = whole.map(({ token }) => token);
    expect(tokens.length).toBeGreaterThan(5);
    for (let cut = 0; cut < whole.length; cut++) {
      const resume = tokens.slice(0, cut);
      expect(await stepsOf({ models: fakeModels(), sampling, resume })).toEqual(whole.slice(cut));
    }
  });

  test("goes on like an undisturbed one with real models, greedy and sampled", async () => {
    const load = (role: string) =>
      loadDecoder(join(VECTORS, "mixed", role), { dtype: "fp32", intraOpThreads: 1 });
    const models = {
      base: await load("base"),
      expert: await load("expert"),
      antiexpert: await load("antiexpert"),
      vocabSize: 125,
    };
    for (const temperature of [0, 1]) {
      const options = {
        models,
        sampling: { temperature, seed: 3, logitBias: [[EOS, -100]] as const },
      };
      const whole = await stepsOf(options);
      expect(whole).toHaveLength(24);
      for (let cut = 1; cut < whole.length; cut++) {
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
    const models = fakeModels();
    expect(await stepsOf({ models, resume, maxTokens })).toEqual([]);
    expect(models.base.opened).toBe(0);
  });
});
