/** Speculative decoding: the same output as without drafts, and when drafts are made. */
import * as fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { DRAFT_TOKENS_MAX } from "../../../../worker/engine/decode/draft.ts";
import { totalDrafts } from "../../../../worker/engine-client/messages.ts";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import type { Pair } from "../../../../worker/engine/loop/model-set.ts";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import type { Prompts } from "../../../../worker/engine/model/ensemble-tokenizers.ts";
import {
  FakeDecoder,
  fakeClock,
  noiseLogits,
  type LogitsOf,
} from "../../../support/fake-decoder.ts";
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

const VOCAB = 12;
const WRONG = 11;
const PLAIN = { speculate: false } as const;
const SAME = { base: [1, 2, 3], expert: [1, 2, 3], antiexpert: [1, 2, 3] };

// The length of drafts depends on the duration of runs, which the fake models decide.
beforeEach(() => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
});

type Three = Readonly<Record<"base" | "expert" | "antiexpert", LogitsOf>>;

/** Models whose logits are common noise, plus `distance` times noise of their own. */
function alike(distance: number): Three {
  const disturbed = (salt: number) => (ids: readonly number[]) => {
    // The common noise depends on the last tokens only, because the models' prompts differ.
    const own = noiseLogits(salt, VOCAB)(ids);
    return noiseLogits(1, VOCAB)(ids.slice(-2)).map((logit, id) => logit + distance * own[id]!);
  };
  return { base: disturbed(2), expert: disturbed(3), antiexpert: disturbed(4) };
}

/** Ensembles whose experts draft well or badly. */
const KINDS = {
  /** The three models are the same; with the same prompts, all drafts are right. */
  right: (vocab = VOCAB): Three => {
    const noise = noiseLogits(1, vocab);
    return { base: noise, expert: noise, antiexpert: noise };
  },
  wrong: (vocab = VOCAB): Three => {
    const alwaysWrong = () => new Float32Array(vocab).fill(100, WRONG, WRONG + 1);
    const base = (ids: readonly number[]) =>
      noiseLogits(1, vocab)(ids).fill(-1000, WRONG, WRONG + 1);
    return { base, expert: alwaysWrong, antiexpert: alwaysWrong };
  },
  close: () => alike(0.2),
  random: () => alike(5),
  /** The base mostly repeats a cycle of tokens, which prompt lookup predicts. */
  circling: (): Three => {
    const noise = noiseLogits(5, VOCAB);
    const base = (ids: readonly number[]) =>
      noise(ids).map((logit, id) => (id === 1 + (ids.at(-1)! % 5) ? logit + 6 : logit));
    return { base, expert: noise, antiexpert: noise };
  },
};
type Kind = keyof typeof KINDS;

function modelsOf(kind: Kind, { baseMs, expertMs } = { baseMs: 10, expertMs: 1 }, vocab = VOCAB) {
  const { base, expert, antiexpert } = KINDS[kind](vocab);
  return {
    base: new FakeDecoder(base, { runMs: baseMs }),
    expert: new FakeDecoder(expert, { runMs: expertMs }),
    antiexpert: new FakeDecoder(antiexpert, { runMs: expertMs }),
    vocabSize: vocab,
  };
}

/** A decoder whose sequences are rows of the host's runs. */
function adapterOf(host: FakeDecoder): Decoder {
  const get = (target: FakeDecoder, key: string | symbol) => {
    if (key === "host") return target;
    const value: unknown = Reflect.get(target, key);
    return typeof value === "function" ? (value.bind(target) as unknown) : value;
  };
  return new Proxy(host, { get });
}

/** The ensemble's pair, and a second one that shares its antiexpert. */
const withAnother = (models: Models, prompts: Prompts, weight: number): Pair[] => [
  { weight: 1, models, prompts },
  {
    weight,
    models: { ...models, expert: new FakeDecoder(noiseLogits(8, models.vocabSize)) },
    prompts,
  },
];

/** With so many tokens, no three tokens repeat by chance. */
const manyTokens = (kind: Kind) => modelsOf(kind, undefined, 2000);

/** Runs a sequence alone; returns the drafts (of fake models) and the tokens of each step. */
async function draftsOf(options: RequestOptions) {
  const batch = new Batch();
  const sequence = batch.add(generateRequest(options))!;
  const scoredTokens = (options.models.base as FakeDecoder).scoredTokens ?? [];
  const steps: { drafts: number[]; tokens: number[] }[] = [];
  while (batch.size > 0) {
    const before = scoredTokens.length;
    const tokens = (await batch.step()).map((step) => {
      if ("error" in step) throw step.error;
      return step.token;
    });
    if (tokens.length > 0) steps.push({ drafts: scoredTokens[before]?.slice(1) ?? [], tokens });
  }
  return { ...totalDrafts(sequence.drafts), steps, tokens: sequence.tokens };
}

const samplings: fc.Arbitrary<NonNullable<RequestOptions["sampling"]>> = fc.record({
  temperature: fc.constantFrom(0, 0.7, 1, 2),
  seed: fc.nat(),
  topK: fc.constantFrom(0, 0, 3),
  topP: fc.constantFrom(1, 1, 0.8),
  minP: fc.constantFrom(0, 0, 0.1),
  repetitionPenalty: fc.constantFrom(1, 1, 1.4),
  presencePenalty: fc.constantFrom(0, 0, 0.7, -0.3),
  frequencyPenalty: fc.constantFrom(0, 0, 0.5, -0.2),
  logitBias: fc.constantFrom([], [NO_EOS], [[3, 2] as const], [[EOS, 2] as const]),
});

describe("speculative decoding changes only the speed:", () => {
  const kinds = fc.constantFrom(...(Object.keys(KINDS) as Kind[]));
  const speeds = fc.record({ baseMs: fc.constantFrom(1, 10, 100), expertMs: fc.nat(20) });

  test(
    "the same tokens, texts and finish as one token at a time, from any position",
    { timeout: 30_000 },
    async () => {
      let drafted = 0;
      const options = fc.record({
        prompts: fc.constantFrom(PROMPTS, SAME),
        alpha: fc.constantFrom(0, 1, 0.5, -1),
        sampling: samplings,
        maxTokens: fc.integer({ min: 1, max: 40 }),
        stop: fc.constantFrom([], ["b"], ["cd", "jk"], ["zz"], ["bcde"]),
      });
      const others = fc.constantFrom(null, 0.4, 2);
      await fc.assert(
        fc.asyncProperty(kinds, speeds, options, others, fc.nat(), async (...values) => {
          const [kind, speeds, options, other, at] = values;
          const over = (models: Models) => ({
            ...options,
            models,
            ...(other && { pairs: withAnother(models, options.prompts, other) }),
          });
          const whole = await runSteps(over(modelsOf(kind)), PLAIN);
          const cut = at % whole.length;
          const resume = whole.slice(0, cut).map(({ token }) => token);
          for (const earlier of [[], resume]) {
            const models = modelsOf(kind, speeds);
            const steps = await runSteps({ ...over(models), resume: earlier });
            expect(steps).toEqual(whole.slice(earlier.length));
            expect(
              models.base.openCount + models.expert.openCount + models.antiexpert.openCount,
            ).toBe(0);
            drafted += models.base.scoredTokens.length;
          }
        }),
        { numRuns: 200 },
      );
      expect(drafted).toBeGreaterThan(200);
    },
  );

  test.each([0, 1])(
    "the same tokens with real models at temperature %d",
    { timeout: 30_000 },
    async (temperature) => {
      const models = await vectorModels("llama", 128);
      for (const alpha of [0, 0.3]) {
        const sampling = { temperature, seed: 5, repetitionPenalty: 1.1, logitBias: [NO_EOS] };
        const options = { models, alpha, sampling, maxTokens: 40 };
        const { tokens } = await draftsOf(options);
        expect(tokens).toEqual(await runTokens(options, PLAIN));
        expect(tokens).toHaveLength(40);
      }
      expect(models.base.cacheBytes).toBe(0);
    },
  );

  test("a model scores its own last prompt token before the drafts", async () => {
    const [models, batch] = [modelsOf("right"), new Batch()];
    const prompts = { base: [3], expert: [5], antiexpert: [7] };
    // The first sequence measures the times of runs, so that the second one, of prompts of one token, begins with drafts.
    for (const maxTokens of [8, 4]) {
      models.base.scoredTokens.length = models.antiexpert.scoredTokens.length = 0;
      batch.add(generateRequest({ models, prompts, maxTokens, sampling: { logitBias: [NO_EOS] } }));
      while (batch.size > 0) await batch.step();
    }
    expect(models.base.scoredTokens[0]![0]).toBe(3);
    expect(models.antiexpert.scoredTokens[0]![0]).toBe(7);
  });

  test("an expert without finite logits after a wrong draft makes no more drafts", async () => {
    const { base, antiexpert } = KINDS.wrong();
    // The expert drafts WRONG, which the text never contains.
    const expert = (ids: readonly number[]) =>
      ids.at(-1) === WRONG ? new Float32Array(VOCAB).fill(Number.NaN) : antiexpert(ids);
    const models = () => ({
      ...modelsOf("wrong"),
      base: new FakeDecoder(base, { runMs: 10 }),
      expert: new FakeDecoder(expert),
    });
    const options = { sampling: { logitBias: [NO_EOS] }, prompts: SAME };
    const { tokens, drafted } = await draftsOf({ ...options, models: models() });
    expect(drafted).toBeGreaterThan(0);
    expect(tokens).toEqual(await runTokens({ ...options, models: models() }, PLAIN));
  });

  test("an expert without a finite logit is no failure if the steered logits have one", async () => {
    const infinite = () => new Float32Array(VOCAB).fill(Number.POSITIVE_INFINITY, 3, 4);
    // Infinity - Infinity is NaN, and such a token is never sampled; the expert alone has no other token.
    const models = () => ({
      ...modelsOf("random", { baseMs: 1, expertMs: 100 }),
      expert: new FakeDecoder(infinite, { runMs: 100 }),
      antiexpert: new FakeDecoder(infinite, { runMs: 100 }),
    });
    const tokens = await runTokens({ models: models() }, PLAIN);
    expect(await runTokens({ models: models() })).toEqual(tokens);
  });
});

describe("drafts", () => {
  const sampling = { logitBias: [NO_EOS] };

  test("of an expert that is always right are all accepted, and save base runs", async () => {
    const models = manyTokens("right");
    const { drafted, accepted, tokens } = await draftsOf({
      models,
      prompts: SAME,
      sampling,
      maxTokens: 200,
    });
    expect(tokens).toHaveLength(200);
    expect(drafted).toBeGreaterThan(120);
    expect(accepted).toBe(drafted);
    expect(models.base.scoredTokens.length + models.base.batchSizes.length).toBeLessThan(200 / 4);
  });

  test("of an expert that is always wrong are never accepted, and stop", async () => {
    const models = manyTokens("wrong");
    const options = { models, prompts: SAME, sampling, maxTokens: 300 };
    const { drafted, accepted, steps } = await draftsOf(options);
    expect(drafted).toBeGreaterThan(0);
    expect(accepted).toBe(0);
    expect(steps).toHaveLength(300);
    // At the end, one token at a time is known to be faster.
    expect(models.base.tokenRuns.slice(-100).every((ids) => ids.length === 1)).toBe(true);
  });

  test.each([true, false])(
    "are made only where they are faster: the expert is an adapter of the antiexpert: %s",
    async (isAdapter) => {
      // One token: 1 + 10 ms with the adapter, 1 + 10 + 10 ms without. Eight drafted ones, all right: 12 ms each.
      const models = modelsOf("right", { baseMs: 1, expertMs: 10 }, 2000);
      const expert = isAdapter ? adapterOf(models.antiexpert) : models.expert;
      const options = { models: { ...models, expert }, prompts: SAME, sampling, maxTokens: 100 };
      const { drafted } = await draftsOf(options);
      expect(drafted > 0).toBe(!isAdapter);
    },
  );

  test("come from prompt lookup if there is no expert", async () => {
    const models = modelsOf("circling");
    const options = { models, alpha: 0, sampling: { ...sampling, temperature: 0 }, maxTokens: 100 };
    const { accepted, tokens } = await draftsOf(options);
    expect(tokens).toHaveLength(100);
    expect(accepted).toBeGreaterThan(60);
    expect(models.base.scoredTokens.length + models.base.batchSizes.length).toBeLessThan(40);
    expect(models.expert.openedCount).toBe(0);
  });

  test.each(Object.keys(KINDS) as Kind[])("are counted if they are verified: %s", async (kind) => {
    const { drafted, accepted, steps } = await draftsOf({
      models: modelsOf(kind),
      maxTokens: 60,
    });
    const verified = steps.flatMap(({ drafts, tokens }) =>
      drafts.slice(0, tokens.length).map((draft, i) => draft === tokens[i]),
    );
    expect(drafted).toBe(verified.length);
    expect(accepted).toBe(verified.filter(Boolean).length);
  });

  test.each(Object.keys(KINDS) as Kind[])(
    "give a step one token more than there are right drafts: %s",
    async (kind) => {
      const { steps } = await draftsOf({ models: modelsOf(kind), maxTokens: 60, sampling });
      for (const { drafts, tokens } of steps.slice(0, -1)) {
        const wrong = drafts.findIndex((draft, i) => draft !== tokens[i]);
        expect(tokens).toHaveLength(1 + (wrong < 0 ? drafts.length : wrong));
      }
    },
  );

  test("are made for several sequences at once", async () => {
    const models = manyTokens("right");
    const batch = new Batch();
    const sequences = [1, 2, 3, 4].map((id) => {
      const prompts = { base: [id, 2], expert: [id, 2], antiexpert: [id, 2] };
      return batch.add(generateRequest({ models, prompts, sampling, maxTokens: 60 }))!;
    });
    while (batch.size > 0) await batch.step();
    for (const { drafts } of sequences) {
      expect(totalDrafts(drafts).drafted).toBeGreaterThan(30);
      expect(totalDrafts(drafts).accepted).toBe(totalDrafts(drafts).drafted);
    }
  });

  test("are not made if a cache cannot rewind", async () => {
    const models = {
      ...modelsOf("right"),
      antiexpert: new FakeDecoder(KINDS.right().base, { canRewind: false }),
    };
    const batch = new Batch();
    const sequence = batch.add(generateRequest({ models, prompts: SAME }))!;
    expect(batch.canDraft(sequence)).toBe(false);
    // At alpha 0 that model does not run.
    expect(batch.canDraft(batch.add(generateRequest({ models, alpha: 0 }))!)).toBe(true);
  });

  test.each<[from: string, kind: Kind, alpha: number]>([
    ["the expert", "right", 1],
    ["prompt lookup", "circling", 0],
  ])("from %s never exceed the token limit", async (_, kind, alpha) => {
    for (let maxTokens = 1; maxTokens < 5 * DRAFT_TOKENS_MAX; maxTokens++) {
      const models = modelsOf(kind);
      await draftsOf({ models, alpha, prompts: SAME, sampling, maxTokens });
      for (const model of [models.base, models.expert, models.antiexpert]) {
        expect(model.longestLength).toBeLessThanOrEqual(SAME.base.length + maxTokens - 1);
      }
    }
  });
});
