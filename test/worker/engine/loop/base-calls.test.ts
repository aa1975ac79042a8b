/** The count of a job's base runs: it is the number of runs that the base has made, whatever the job asks for. */
import { expect, test, vi } from "vitest";
import { Output } from "../../../../worker/engine/decode/output.ts";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { GenerateRequest, Sequence } from "../../../../worker/engine/loop/sequence.ts";
import {
  generateRequest,
  NO_EOS,
  PROMPTS,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { fakeClock, FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";

const VOCAB = 20;
const LONG = Array.from({ length: 300 }, (_, i) => i % VOCAB);
const SAMPLING = { temperature: 0, logitBias: [NO_EOS] };

const runsOf = ({ prefilledTokens, batchSizes, scoredTokens }: FakeDecoder) =>
  prefilledTokens.length + batchSizes.length + scoredTokens.length;

function scored(options: RequestOptions): GenerateRequest {
  const end = { stop: [], eosIds: new Set<number>(), maxTokens: 70 };
  const output = new Output({ decode: () => "", ...end });
  return { ...generateRequest(options), output, forcedTokens: LONG.slice(0, 70) };
}

const sameModels = () => {
  const models = fakeModels(VOCAB);
  return { ...models, expert: new FakeDecoder(noiseLogits(1, VOCAB), { runMs: 0 }) };
};

const CASES: Readonly<Record<string, (models: RequestOptions["models"]) => GenerateRequest>> = {
  "a short prompt": (models) => generateRequest({ models, sampling: SAMPLING }),
  "a prompt of several chunks": (models) =>
    generateRequest({ models, sampling: SAMPLING, prompts: { ...PROMPTS, base: LONG } }),
  "the base alone": (models) => generateRequest({ models, sampling: SAMPLING, alpha: 0 }),
  "a scored text": (models) => scored({ models }),
  "a scored prompt": (models) => ({
    ...generateRequest({ models, sampling: SAMPLING }),
    scoredPrompt: { tokens: LONG.slice(0, 50), logprobs: 1 },
  }),
  "resumed tokens": (models) =>
    generateRequest({ models, sampling: SAMPLING, resume: [3, 4, 5, 6] }),
};

test.for(Object.entries(CASES))(
  "equals the runs that the base has made: %s",
  async ([, request]) => {
    for (const speculate of [true, false]) {
      for (const models of [fakeModels(VOCAB), sameModels()]) {
        let sequence: Sequence | undefined;
        for await (const step of generate(request(models), { speculate })) ({ sequence } = step);
        expect(sequence!.baseCalls).toBe(runsOf(models.base));
      }
    }
  },
);

test("drafts that are accepted save runs", async () => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
  const counts: number[] = [];
  for (const speculate of [true, false]) {
    const prompts = { base: [1, 2], expert: [1, 2], antiexpert: [1, 2] };
    const options = { models: sameModels(), prompts, alpha: 0.01, sampling: SAMPLING };
    const request = generateRequest(options);
    let sequence: Sequence | undefined;
    for await (const step of generate(request, { speculate })) ({ sequence } = step);
    counts.push(sequence!.baseCalls);
  }
  expect(counts[0]).toBeLessThan(counts[1]! / 2);
});

test("a run with several sequences counts for each, and tokens from the prefix cache need none", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch({ speculate: true, prefixCache: new PrefixCache(2 ** 20) });
  const options = { models, alpha: 0, sampling: SAMPLING, maxTokens: 4 };
  const request = () => ({
    ...generateRequest({ ...options, prompts: { ...PROMPTS, base: LONG } }),
    tenant: "t",
  });
  const runAll = async (count: number) => {
    const sequences = Array.from({ length: count }, () => batch.add(request())!);
    while (batch.size > 0) await batch.step();
    return sequences.map(({ baseCalls }) => baseCalls);
  };
  const [alone] = await runAll(1);
  // The last chunk gives the first token.
  expect(alone).toBe(3 + 3);
  // One chunk is left for what is beyond the cached blocks.
  expect(await runAll(2)).toEqual([1 + 3, 1 + 3]);
});
