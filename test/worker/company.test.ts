import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Batch, generate, type BatchOptions } from "../../worker/generate.ts";
import type { Row } from "../../worker/row.ts";
import { fakeModels } from "../support/fake-decoder.ts";
import { largestDifference } from "../support/logits.ts";
import { request, vectorModels, type RowOptions } from "../support/rows.ts";

const VOCAB = 20;
const PLAIN = { speculate: false } as const;
const llama = await vectorModels("llama", 128);
const gemma = await vectorModels("gemma2", 128);

/** A row of a schedule: when it comes, and when it is taken out if it is not finished by then. */
interface Plan {
  readonly ensemble: number;
  readonly lengths: readonly [number, number, number];
  readonly alpha: number;
  /** Whether another ensemble's pair steers with its own. */
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

function rowOf(plan: Plan, ensembles: readonly RowOptions["models"][]): RowOptions {
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
  /** Steered logits of each step, where rows take one token a step. */
  readonly logits: Float32Array[];
  hasLeft: boolean;
}

async function play(
  plans: readonly Plan[],
  ensembles: readonly RowOptions["models"][],
  options: BatchOptions,
): Promise<Outcome[]> {
  const batch = new Batch(options);
  const rows = new Map<Row, number>();
  const outcomes = plans.map((): Outcome => ({ tokens: [], logits: [], hasLeft: false }));
  for (let now = 0; rows.size > 0 || plans.some(({ joins }) => joins >= now); now++) {
    for (const [i, plan] of plans.entries()) {
      if (plan.joins === now) rows.set(batch.add(request(rowOf(plan, ensembles)))!, i);
    }
    for (const [row, i] of rows) {
      if (plans[i]!.leaves !== now) continue;
      batch.remove(row);
      rows.delete(row);
      outcomes[i]!.hasLeft = true;
    }
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const { tokens, logits } = outcomes[rows.get(step.row)!]!;
      tokens.push(step.token);
      logits.push(step.row.logits.slice());
      if (step.finish) rows.delete(step.row);
    }
    expect(batch.size).toBe(rows.size);
  }
  return outcomes;
}

/** Plays a schedule, and holds each row against the same row alone, one token at a time. */
async function compare(
  plans: readonly Plan[],
  ensembles: readonly RowOptions["models"][],
  options: BatchOptions,
): Promise<void> {
  const outcomes = await play(plans, ensembles, options);
  for (const [i, { tokens, logits, hasLeft }] of outcomes.entries()) {
    const alone = { tokens: [] as number[], logits: [] as Float32Array[] };
    for await (const { token, row } of generate(request(rowOf(plans[i]!, ensembles)), PLAIN)) {
      alone.tokens.push(token);
      alone.logits.push(row.logits.slice());
    }
    expect(tokens).toEqual(hasLeft ? alone.tokens.slice(0, tokens.length) : alone.tokens);
    // With drafts, a step's logits are those of its last token alone.
    if (options.speculate) continue;
    const together = alone.logits.slice(0, logits.length);
    expect(largestDifference(logits, together)).toBeLessThan(1e-3);
  }
}

describe("a row's tokens are the same alone and in company, whoever joins or leaves,", () => {
  /** Two ensembles over one base, and one whose expert is that base. */
  const overOneBase = <T extends RowOptions["models"]>(models: T) => [
    models,
    { ...models, expert: models.antiexpert, antiexpert: models.expert },
    { ...models, expert: models.base },
  ];

  test.each([true, false])(
    "with fake models (speculating: %s)",
    { timeout: 30_000 },
    async (speculate) => {
      await fc.assert(
        fc.asyncProperty(fc.array(plan(3, 300), { minLength: 1, maxLength: 6 }), async (plans) => {
          const models = fakeModels(VOCAB);
          await compare(plans, overOneBase(models), { speculate });
          expect([models.base.running, models.expert.running]).toEqual([0, 0]);
        }),
        { numRuns: 60 },
      );
    },
  );

  // Real logits differ in their last digits, so the schedules are always the same ones: no tie is ever met by chance.
  test.each([
    ["owned", llama, 7],
    ["refed", gemma, 4],
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
