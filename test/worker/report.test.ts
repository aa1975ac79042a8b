/** What is told of tokens, through the loop: with drafts or without, taken over or not, it is the same. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Output } from "../../worker/decode/output.ts";
import { Sampler, type Sampling } from "../../worker/decode/sampler.ts";
import type { Report } from "../../worker/decode/trace.ts";
import { generate } from "../../worker/generate.ts";
import { loadDecoder } from "../../worker/model/files.ts";
import type { Models } from "../../worker/parts.ts";
import type { GenerateRequest } from "../../worker/row.ts";
import { VECTORS } from "../support/model-folder.ts";
import { sampling } from "../support/sampling.ts";

const PROMPTS = { base: [5, 9, 14, 5, 9, 14], expert: [7, 5, 9, 14], antiexpert: [5, 9, 14] };

let models: Models;
beforeAll(async () => {
  const load = (role: string) =>
    loadDecoder(join(VECTORS, "llama", role), { dtype: "fp32", intraOpThreads: 1 });
  models = {
    base: await load("base"),
    expert: await load("expert"),
    antiexpert: await load("antiexpert"),
    vocabSize: 125,
  };
});

interface Told {
  readonly token: number;
  readonly report: Report | null;
}

async function run(
  changes: Partial<GenerateRequest> = {},
  { speculate = false, ...options }: Partial<Sampling> & { speculate?: boolean } = {},
): Promise<Told[]> {
  const request: GenerateRequest = {
    models,
    prompts: PROMPTS,
    alpha: 1,
    resume: [],
    report: { logprobs: 2, trace: true },
    sampler: new Sampler(sampling({ seed: 4, ...options }), PROMPTS.base),
    output: new Output({ decode: () => "", stop: [], eosIds: new Set(), maxTokens: 20 }),
    ...changes,
  };
  const told: Told[] = [];
  for await (const { token, report } of generate(request, { speculate }))
    told.push({ token, report });
  return told;
}

/** The largest difference of a number that is told; Infinity where tokens differ. */
function difference(some: readonly Told[], others: readonly Told[]): number {
  const tokens = (told: readonly Told[]) =>
    told.map(({ token, report }) => [
      token,
      report!.shift!.baseToken,
      ...report!.logprobs!.top.map(({ id }) => id),
    ]);
  if (JSON.stringify(tokens(some)) !== JSON.stringify(tokens(others))) return Infinity;
  const numbers = (told: readonly Told[]) =>
    told.flatMap(({ report }) => {
      const { base, expert, antiexpert, steered, gain, kl } = report!.shift!;
      return [base, expert!, antiexpert!, steered, gain, kl, report!.logprobs!.logprob];
    });
  const theirs = numbers(others);
  return Math.max(...numbers(some).map((number, i) => Math.abs(number - theirs[i]!)));
}

/** What the last bits of a logit may change. */
const TOLERANCE = 1e-3;

describe.each([0, 1])("at temperature %i", (temperature) => {
  test("drafts change nothing of what is told", async () => {
    const whole = await run({}, { temperature });
    const drafted = await run({}, { temperature, speculate: true });
    expect(difference(drafted, whole)).toBeLessThan(TOLERANCE);
  });

  test("a run that takes over tells the rest as an undisturbed one would", async () => {
    const whole = await run({}, { temperature });
    for (const cut of [1, 7, 19]) {
      const resume = whole.slice(0, cut).map(({ token }) => token);
      const rest = await run({ resume }, { temperature });
      expect(difference(rest, whole.slice(cut))).toBeLessThan(TOLERANCE);
    }
  });

  test("the base's token is what the base alone takes after the same text", async () => {
    const whole = await run({}, { temperature });
    for (const [i, { report }] of whole.entries()) {
      const resume = whole.slice(0, i).map(({ token }) => token);
      const [alone] = await run({ resume, alpha: 0 }, { temperature });
      expect(report!.shift!.baseToken).toBe(alone!.token);
      expect(report!.shift!.kl).toBeGreaterThan(0);
    }
  });
});

describe("a schedule with guards", () => {
  const steered: Partial<GenerateRequest> = {
    alpha: 1.5,
    schedule: [
      [2, 1.5],
      [8, 0],
      [12, 1],
    ],
    guards: { baseNucleus: 0.95, klBudget: 0.4, fallback: 0.01 },
  };

  test("steers as the schedule says, within the guards", async () => {
    const told = await run({ ...steered, guards: {} });
    const alphas = told.map(({ report }) => report!.shift!.alpha);
    expect(alphas.slice(0, 13)).toEqual([
      1.5, 1.5, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75, 1,
    ]);
    const guarded = await run(steered);
    for (const [i, { report }] of guarded.entries()) {
      expect(report!.shift!.kl).toBeLessThanOrEqual(0.4);
      expect(report!.shift!.alpha).toBeLessThanOrEqual(alphas[i]!);
    }
    expect(guarded.some(({ report }, i) => report!.shift!.alpha < alphas[i]!)).toBe(true);
  });

  test("comes out the same with drafts and after taking over", async () => {
    const whole = await run(steered);
    expect(difference(await run(steered, { speculate: true }), whole)).toBeLessThan(TOLERANCE);
    const resume = whole.slice(0, 10).map(({ token }) => token);
    expect(difference(await run({ ...steered, resume }), whole.slice(10))).toBeLessThan(TOLERANCE);
  });
});

test("at alpha 0 the pair is not run, and nothing is shifted", async () => {
  for (const { token, report } of await run({ alpha: 0 })) {
    const { shift, logprobs } = report!;
    expect(shift).toMatchObject({
      expert: null,
      antiexpert: null,
      kl: 0,
      gain: 0,
      baseToken: token,
    });
    expect(shift!.steered).toBe(logprobs!.logprob);
  }
});

test("without a wish nothing is told", async () => {
  const nothing = { report: undefined } as unknown as Partial<GenerateRequest>;
  for (const { report } of await run(nothing)) expect(report).toBeNull();
});
