/** A sequence's tokens do not depend on the other sequences of the batch. With real models, also that its memory is freed in time. */
import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { Batch, type BatchOptions } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import {
  InferenceSession,
  type Tensor,
} from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { fakeModels } from "../../../support/fake-decoder.ts";
import { largestDifference } from "../../../support/logits.ts";
import {
  generateRequest,
  vectorModels,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { passthroughCopyOf } from "../../../support/model-folder.ts";

const VOCAB = 20;
const PLAIN = { speculate: false } as const;
const llama = await vectorModels("llama", 128);
const gemma = await vectorModels("gemma2", 128, passthroughCopyOf);

/** One sequence of a test: when it joins the batch, and when it is removed if it has not finished. */
interface Plan {
  readonly ensemble: number;
  readonly lengths: readonly [number, number, number];
  readonly alpha: number;
  /** Whether the pair of another ensemble steers too. */
  readonly isMixed: boolean;
  readonly temperature: number;
  readonly seed: number;
  readonly maxTokens: number;
  readonly joins: number;
  readonly leaves: number | null;
}

const plan = (ensembles: number, promptMax: number): fc.Arbitrary<Plan> => {
  const length = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: promptMax }));
  return fc.record({
    ensemble: fc.nat(ensembles - 1),
    lengths: fc.tuple(length, length, length),
    alpha: fc.constantFrom(0, 1, 0.6, -0.5),
    isMixed: fc.boolean(),
    temperature: fc.constantFrom(0, 1),
    seed: fc.nat(1000),
    maxTokens: fc.integer({ min: 1, max: 16 }),
    joins: fc.nat(8),
    leaves: fc.option(fc.integer({ min: 1, max: 20 })),
  });
};

function requestOptions(
  plan: Plan,
  ensembles: readonly RequestOptions["models"][],
): RequestOptions {
  const models = ensembles[plan.ensemble]!;
  const [base, expert, antiexpert] = plan.lengths.map((length, role) =>
    Array.from({ length }, (_, i) => 1 + ((plan.seed + role + i * i) % (models.vocabSize - 1))),
  );
  const prompts = { base: base!, expert: expert!, antiexpert: antiexpert! };
  const other = ensembles[(plan.ensemble + 1) % ensembles.length]!;
  const pairs = [
    { weight: 0.7, models, prompts },
    { weight: 0.5, models: other, prompts },
  ];
  return {
    models,
    prompts,
    alpha: plan.alpha,
    ...(plan.isMixed && { pairs }),
    maxTokens: plan.maxTokens,
    sampling: { temperature: plan.temperature, seed: plan.seed },
  };
}

interface Outcome {
  readonly tokens: number[];
  /** Steered logits of each step, if each step gives one token. */
  readonly logits: Float32Array[];
  hasLeft: boolean;
}

async function run(
  plans: readonly Plan[],
  ensembles: readonly RequestOptions["models"][],
  options: BatchOptions,
): Promise<Outcome[]> {
  const batch = new Batch(options);
  const sequences = new Map<Sequence, number>();
  const outcomes = plans.map((): Outcome => ({ tokens: [], logits: [], hasLeft: false }));
  for (let now = 0; sequences.size > 0 || plans.some(({ joins }) => joins >= now); now++) {
    for (const [i, plan] of plans.entries()) {
      if (plan.joins === now)
        sequences.set(batch.add(generateRequest(requestOptions(plan, ensembles)))!, i);
    }
    for (const [sequence, i] of sequences) {
      if (plans[i]!.leaves !== now) continue;
      batch.remove(sequence);
      sequences.delete(sequence);
      outcomes[i]!.hasLeft = true;
    }
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const { tokens, logits } = outcomes[sequences.get(step.sequence)!]!;
      tokens.push(step.token);
      logits.push(step.sequence.logits.slice());
      if (step.finish) sequences.delete(step.sequence);
    }
    expect(batch.size).toBe(sequences.size);
  }
  return outcomes;
}

/** Runs the plans in one batch, and compares each sequence with the same sequence alone, one token at a time. */
async function compare(
  plans: readonly Plan[],
  ensembles: readonly RequestOptions["models"][],
  options: BatchOptions,
): Promise<void> {
  const outcomes = await run(plans, ensembles, options);
  for (const [i, { tokens, logits, hasLeft }] of outcomes.entries()) {
    const alone = { tokens: [] as number[], logits: [] as Float32Array[] };
    for await (const { token, sequence } of generate(
      generateRequest(requestOptions(plans[i]!, ensembles)),
      PLAIN,
    )) {
      alone.tokens.push(token);
      alone.logits.push(sequence.logits.slice());
    }
    expect(tokens).toEqual(hasLeft ? alone.tokens.slice(0, tokens.length) : alone.tokens);
    // With drafts, only the logits of a step's last token are known.
    if (options.speculate) continue;
    const together = alone.logits.slice(0, logits.length);
    expect(largestDifference(logits, together)).toBeLessThan(1e-3);
  }
}

describe("a sequence gives the same tokens alone and beside others that join and leave,", () => {
  /** Two ensembles over one base, and one whose expert is that base. */
  const overOneBase = <T extends RequestOptions["models"]>(models: T) => [
    models,
    { ...models, expert: models.antiexpert, antiexpert: models.expert },
    { ...models, expert: models.base },
  ];

  test.each([true, false])(
    "with fake models (speculative: %s)",
    { timeout: 30_000 },
    async (speculate) => {
      await fc.assert(
        fc.asyncProperty(fc.array(plan(3, 300), { minLength: 1, maxLength: 6 }), async (plans) => {
          const models = fakeModels(VOCAB);
          await compare(plans, overOneBase(models), { speculate });
          expect([models.base.openCount, models.expert.openCount]).toEqual([0, 0]);
        }),
        { numRuns: 60 },
      );
    },
  );

  // Real logits differ in their last digits. A fixed seed avoids a chance tie between two tokens.
  test.each([
    ["external", llama, 7],
    ["passthrough", gemma, 4],
  ])("with %s caches", { timeout: 30_000 }, async (_, models, numRuns) => {
    for (const speculate of [false, true]) {
      await fc.assert(
        fc.asyncProperty(fc.array(plan(3, 200), { minLength: 2, maxLength: 6 }), async (plans) => {
          await compare(plans, overOneBase(models), { speculate });
          expect([models.base.cacheBytes, models.expert.cacheBytes]).toEqual([0, 0]);
        }),
        { numRuns, seed: 2_401_085_65 },
      );
    }
  });
});

test("one that a longer neighbour has left gets a narrower cache, also if all its runs verify drafts", async () => {
  const { base: decoder } = llama;
  const [long, short] = [decoder.open(), decoder.open()];
  await decoder.prefill(long, Array<number>(100).fill(1));
  await decoder.prefill(short, Array<number>(40).fill(1));
  await decoder.decode([long, short].map((sequence) => ({ sequence, id: 1 })));
  decoder.close(long);
  const needed = decoder.cacheBytesFor([44]);
  expect(decoder.cacheBytes).toBeGreaterThan(needed);
  for (let i = 0; i < 4; i++) {
    await decoder.score(short, [1, 2, 3]);
    decoder.rewind!(short, 3);
  }
  expect(decoder.cacheBytes).toBe(needed);
  decoder.close(short);
});

test.each([
  { cache: "external", decoder: llama.base, isKept: false },
  { cache: "passthrough", decoder: gemma.base, isKept: true },
])(
  "outputs of a run are freed when no run needs them ($cache cache)",
  async ({ decoder, isKept }) => {
    const { prototype } = InferenceSession as unknown as { readonly prototype: InferenceSession };
    using run = vi.spyOn(prototype, "run");
    const sequence = decoder.open();
    await decoder.prefill(sequence, [1, 2]);
    await decoder.decode([{ sequence, id: 3 }]);
    await decoder.score(sequence, [4, 5]);
    const areHeld = run.mock.settledResults.map(({ value }) => {
      const { logits: _, ...keysAndValues } = value as Record<string, Tensor>;
      return Object.values(keysAndValues).some(({ data }) => data.length > 0);
    });
    expect(areHeld).toEqual([false, false, isKept]);
    decoder.close(sequence);
  },
);
