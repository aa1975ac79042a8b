/** Token analysis through the decode loop: the same with and without drafts, and after resuming. */
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { Output } from "../../../../worker/engine/decode/output.ts";
import { Sampler, type Sampling } from "../../../../worker/engine/decode/sampler.ts";
import type { TokenAnalysis } from "../../../../worker/engine/decode/token-analysis.ts";
import { totalDrafts } from "../../../../worker/engine-client/messages.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import type { GenerateRequest } from "../../../../worker/engine/loop/sequence.ts";
import { VECTORS } from "../../../support/model-folder.ts";
import { FakeDecoder, fakeClock, noiseLogits } from "../../../support/fake-decoder.ts";
import { sampling } from "../../../support/sampling.ts";

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

interface Result {
  readonly token: number;
  readonly analysis: TokenAnalysis | null;
}

function requestOf(
  changes: Partial<GenerateRequest> = {},
  options: Partial<Sampling> = {},
): GenerateRequest {
  return {
    models,
    prompts: PROMPTS,
    alpha: 1,
    resume: [],
    analysis: { logprobs: 2, trace: true },
    sampler: new Sampler(sampling({ seed: 4, ...options }), PROMPTS.base),
    output: new Output({ decode: () => "", stop: [], eosIds: new Set(), maxTokens: 20 }),
    ...changes,
  };
}

async function run(
  changes: Partial<GenerateRequest> = {},
  { speculate = false, ...options }: Partial<Sampling> & { speculate?: boolean } = {},
): Promise<Result[]> {
  const request = requestOf(changes, options);
  const results: Result[] = [];
  for await (const { token, analysis } of generate(request, { speculate }))
    results.push({ token, analysis });
  return results;
}

/** The largest difference of a number in two analyses; Infinity if their tokens differ. */
function difference(some: readonly Result[], others: readonly Result[]): number {
  const tokens = (results: readonly Result[]) =>
    results.map(({ token, analysis }) => [
      token,
      analysis!.trace!.baseToken,
      ...analysis!.logprobs!.top.map(({ id }) => id),
    ]);
  if (JSON.stringify(tokens(some)) !== JSON.stringify(tokens(others))) return Infinity;
  const numbers = (results: readonly Result[]) =>
    results.flatMap(({ analysis }) => {
      const { base, expert, antiexpert, steered, gain, kl } = analysis!.trace!;
      return [base, expert!, antiexpert!, steered, gain, kl, analysis!.logprobs!.logprob];
    });
  const theirs = numbers(others);
  return Math.max(...numbers(some).map((number, i) => Math.abs(number - theirs[i]!)));
}

/** Logits differ in their last bits. */
const TOLERANCE = 1e-3;

describe.each([0, 1])("at temperature %i", (temperature) => {
  test("drafts do not change the analysis", async () => {
    const whole = await run({}, { temperature });
    const drafted = await run({}, { temperature, speculate: true });
    expect(difference(drafted, whole)).toBeLessThan(TOLERANCE);
  });

  test("a run that resumes gives the same analysis as an uninterrupted one", async () => {
    const whole = await run({}, { temperature });
    for (const cut of [1, 7, 19]) {
      const resume = whole.slice(0, cut).map(({ token }) => token);
      const rest = await run({ resume }, { temperature });
      expect(difference(rest, whole.slice(cut))).toBeLessThan(TOLERANCE);
    }
  });

  test("baseToken is the token that the base alone gives after the same text", async () => {
    const whole = await run({}, { temperature });
    for (const [i, { analysis }] of whole.entries()) {
      const resume = whole.slice(0, i).map(({ token }) => token);
      const [alone] = await run({ resume, alpha: 0 }, { temperature });
      expect(analysis!.trace!.baseToken).toBe(alone!.token);
      expect(analysis!.trace!.kl).toBeGreaterThan(0);
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

  test("follows the schedule, and stays within the guards", async () => {
    const results = await run({ ...steered, guards: {} });
    const alphas = results.map(({ analysis }) => analysis!.trace!.alpha);
    expect(alphas.slice(0, 13)).toEqual([
      1.5, 1.5, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75, 1,
    ]);
    const guarded = await run(steered);
    for (const [i, { analysis }] of guarded.entries()) {
      expect(analysis!.trace!.kl).toBeLessThanOrEqual(0.4);
      expect(analysis!.trace!.alpha).toBeLessThanOrEqual(alphas[i]!);
    }
    expect(guarded.some(({ analysis }, i) => analysis!.trace!.alpha < alphas[i]!)).toBe(true);
  });

  test("gives the same with drafts and after resuming", async () => {
    const whole = await run(steered);
    expect(difference(await run(steered, { speculate: true }), whole)).toBeLessThan(TOLERANCE);
    const resume = whole.slice(0, 10).map(({ token }) => token);
    expect(difference(await run({ ...steered, resume }), whole.slice(10))).toBeLessThan(TOLERANCE);
  });
});

test("as many tokens are marked as drafted as drafts are accepted, and none without drafts", async () => {
  // Whether drafting pays is decided by the times of runs: those of this base take ten times as long as the pair's.
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
  onTestFinished(() => void vi.restoreAllMocks());
  const model = (runMs: number) => new FakeDecoder(noiseLogits(1, models.vocabSize), { runMs });
  const fake = { ...models, base: model(10), expert: model(1), antiexpert: model(1) };
  const request = requestOf({ models: fake });
  let accepted = 0;
  const marks: (boolean | undefined)[] = [];
  for await (const { sequence, analysis } of generate(request, { speculate: true })) {
    accepted = totalDrafts(sequence.drafts).accepted;
    marks.push(analysis!.isDrafted);
  }
  expect(accepted).toBeGreaterThan(0);
  expect(marks.filter(Boolean)).toHaveLength(accepted);
  expect((await run()).some(({ analysis }) => analysis!.isDrafted)).toBe(false);
});

test("at alpha 0 expert and antiexpert are not run, and the trace shows no shift", async () => {
  for (const { token, analysis } of await run({ alpha: 0 })) {
    const { trace, logprobs } = analysis!;
    expect(trace).toMatchObject({
      expert: null,
      antiexpert: null,
      kl: 0,
      gain: 0,
      baseToken: token,
    });
    expect(trace!.steered).toBe(logprobs!.logprob);
  }
});

test("without analysis options there is no analysis", async () => {
  const nothing = { analysis: undefined } as unknown as Partial<GenerateRequest>;
  for (const { analysis } of await run(nothing)) expect(analysis).toBeNull();
});
