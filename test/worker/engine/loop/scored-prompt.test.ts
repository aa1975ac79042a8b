/** A prompt whose tokens are scored before the output begins. */
import { expect, test } from "vitest";
import { Output } from "../../../../worker/engine/decode/output.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { SCORE_CHUNK_TOKENS } from "../../../../worker/engine/loop/step-budget.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { GenerateRequest, Sequence } from "../../../../worker/engine/loop/sequence.ts";
import type { TokenAnalysis } from "../../../../worker/engine/decode/token-analysis.ts";
import { generateRequest, NO_EOS, type RequestOptions } from "../../../support/decode-loop.ts";
import { fakeModels } from "../../../support/fake-decoder.ts";

const VOCAB = 20;
const LENGTH = SCORE_CHUNK_TOKENS + 9;
const WHOLE = Array.from({ length: LENGTH }, (_, i) => (i * i + 5 * i + 1) % VOCAB);
const SAMPLED = {
  sampling: { temperature: 1, presencePenalty: 0.5, repetitionPenalty: 1.2, logitBias: [NO_EOS] },
  maxTokens: 6,
};

const same = (ids: readonly number[]) => ({ base: ids, expert: ids, antiexpert: ids });

/** The prompt's first token is read, the others are scored. */
function scoring(options: RequestOptions, resume: readonly number[] = []): GenerateRequest {
  // The sampler gets the whole prompt.
  const request = generateRequest({ ...options, prompts: same(WHOLE) });
  const scoredPrompt = { tokens: WHOLE.slice(1), logprobs: 2 };
  return { ...request, prompts: same(WHOLE.slice(0, 1)), scoredPrompt, resume };
}

interface Result {
  readonly token: number;
  readonly text: string;
  readonly analysis: TokenAnalysis | null;
}

async function run(request: GenerateRequest): Promise<Result[]> {
  const results: Result[] = [];
  for await (const { token, text, analysis } of generate(request)) {
    results.push({ token, text, analysis });
  }
  return results;
}

test("each token has the log-probability that scoring it as a text gives, and the output is as without scores", async () => {
  const models = fakeModels(VOCAB);
  const results = await run(scoring({ models, ...SAMPLED }));
  const prompt = results.slice(0, LENGTH - 1);
  expect(prompt.map(({ token, text }) => [token, text])).toEqual(
    WHOLE.slice(1).map((token) => [token, ""]),
  );
  const forced = generateRequest({
    models,
    prompts: same(WHOLE.slice(0, 1)),
    sampling: { temperature: 0 },
  });
  const analysis = { logprobs: 2, trace: false };
  // A text may have end tokens within it.
  const end = { stop: [], eosIds: new Set<number>(), maxTokens: LENGTH - 1 };
  const output = new Output({ decode: () => "", ...end });
  const texts = await run({ ...forced, output, forcedTokens: WHOLE.slice(1), analysis });
  for (const [i, { analysis }] of prompt.entries()) {
    const { rank, ...logprobs } = analysis!.prompt!;
    expect(logprobs).toEqual(texts[i]!.analysis!.logprobs);
    const place = logprobs.top.findIndex(({ id }) => id === WHOLE[i + 1]);
    expect(place === -1 ? rank > 2 : rank === place + 1).toBe(true);
  }
  const plain = await run(generateRequest({ models, prompts: same(WHOLE), ...SAMPLED }));
  expect(results.slice(LENGTH - 1)).toEqual(plain);
  expect(plain).toHaveLength(6);
});

test("it continues where an earlier attempt ended, in the prompt or in the output", async () => {
  const models = fakeModels(VOCAB);
  const whole = await run(scoring({ models, ...SAMPLED }));
  for (const cut of [1, 20, LENGTH - 2, LENGTH - 1, LENGTH + 2]) {
    const resume = whole.slice(0, cut).map(({ token }) => token);
    expect(await run(scoring({ models, ...SAMPLED }, resume))).toEqual(whole.slice(cut));
  }
});

test("without an output it ends with the prompt's last token, which no model runs", async () => {
  const models = fakeModels(VOCAB);
  const request = scoring({ models, ...SAMPLED, maxTokens: 0 });
  const batch = new Batch();
  batch.add(request);
  const steps = [];
  while (batch.size > 0) steps.push(...(await batch.step()));
  expect(steps).toHaveLength(LENGTH - 1);
  expect(steps.at(-1)).toMatchObject({ token: WHOLE.at(-1), finish: "length" });
  expect(models.base.longestLength).toBe(LENGTH - 1);
  expect(models.base.openCount).toBe(0);
  expect(batch.add(scoring({ models, maxTokens: 0 }, WHOLE.slice(1)))).toBeNull();
  expect(request.output.finish).toBe("length");
});

test("a long prompt does not keep a short one from being scored", async () => {
  const models = fakeModels(VOCAB);
  const batch = new Batch();
  const long = scoring({ models, maxTokens: 0 });
  const tokens = Array.from({ length: 20 }, () => WHOLE).flat();
  batch.add({ ...long, scoredPrompt: { tokens, logprobs: 0 } });
  const short = batch.add(scoring({ models, maxTokens: 0 }))!;
  const finished: Sequence[] = [];
  while (finished.length === 0) {
    for (const step of await batch.step()) {
      if (!("error" in step) && step.finish) finished.push(step.sequence);
    }
  }
  expect(finished).toEqual([short]);
});
