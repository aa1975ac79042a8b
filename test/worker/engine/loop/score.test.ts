/** Scoring of forced tokens: in chunks they get the same analysis as one token at a time. */
import { describe, expect, test } from "vitest";
import { Output } from "../../../../worker/engine/decode/output.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { SCORE_CHUNK_TOKENS } from "../../../../worker/engine/loop/step-budget.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import type { GenerateRequest, Sequence } from "../../../../worker/engine/loop/sequence.ts";
import type {
  CandidateOptions,
  TokenAnalysis,
} from "../../../../worker/engine/decode/token-analysis.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";
import {
  EOS,
  PROMPTS,
  generateRequest,
  runSteps,
  vectorModels,
  type RequestOptions,
} from "../../../support/decode-loop.ts";

const VOCAB = 20;
const GREEDY = { temperature: 0 };

/** Longer than a chunk, with end tokens inside. */
const textOf = (vocabSize: number, length = 3 * SCORE_CHUNK_TOKENS - 5) =>
  Array.from({ length }, (_, i) => (i * i + 3 * i) % (vocabSize - 3));

function scoring(
  options: RequestOptions,
  forcedTokens = textOf(options.models.vocabSize),
): GenerateRequest {
  const request = generateRequest({ sampling: GREEDY, ...options });
  const end = { stop: [], eosIds: new Set<number>(), maxTokens: forcedTokens.length };
  const output = new Output({ decode: () => "", ...end });
  return { ...request, output, forcedTokens, analysis: { logprobs: 2, trace: true } };
}

async function score(request: GenerateRequest) {
  const results: { token: number; analysis: TokenAnalysis }[] = [];
  for await (const { token, analysis } of generate(request))
    results.push({ token, analysis: analysis! });
  return results;
}

/** Logits before each token of the text, from one run for each token. */
async function logitsOneByOne(
  model: Decoder,
  prompt: readonly number[],
  text: readonly number[],
  V: number,
) {
  const sequence = model.open();
  if (prompt.length > 1) await model.prefill(sequence, prompt.slice(0, -1));
  const results: number[][] = [];
  for (const id of [prompt.at(-1)!, ...text.slice(0, -1)]) {
    const [logits] = await model.decode([{ sequence, id }]);
    results.push([...logits!.subarray(0, V)]);
  }
  model.close(sequence);
  return results;
}

const logprob = (logits: readonly number[], token: number) =>
  logits[token]! - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));

describe("the log-probabilities of a text", () => {
  test.each(["llama", "gemma2"])(
    "are the same as one token at a time, for each model and steered: %s",
    { timeout: 30_000 },
    async (family) => {
      const models = await vectorModels(family, 128);
      const request = scoring(
        { models, alpha: 0.8 },
        textOf(128).map((id) => Math.max(1, id)),
      );
      const text = request.forcedTokens!;
      const [base, expert, antiexpert] = [
        await logitsOneByOne(models.base, PROMPTS.base, text, 128),
        await logitsOneByOne(models.expert, PROMPTS.expert, text, 128),
        await logitsOneByOne(models.antiexpert, PROMPTS.antiexpert, text, 128),
      ];
      const results = await score(request);
      expect(results.map(({ token }) => token)).toEqual(text);
      for (const [i, { token, analysis }] of results.entries()) {
        const steered = base[i]!.map((b, id) => b + 0.8 * (expert[i]![id]! - antiexpert[i]![id]!));
        const { trace, logprobs } = analysis;
        expect(trace!.base).toBeCloseTo(logprob(base[i]!, token), 2);
        expect(trace!.expert).toBeCloseTo(logprob(expert[i]!, token), 2);
        expect(trace!.antiexpert).toBeCloseTo(logprob(antiexpert[i]!, token), 2);
        expect(trace!.steered).toBeCloseTo(logprob(steered, token), 2);
        expect(logprobs!.logprob).toBe(trace!.steered);
        expect(trace!.baseToken).toBe(base[i]!.indexOf(Math.max(...base[i]!)));
      }
      expect(models.base.cacheBytes).toBe(0);
    },
  );

  test("need one run of each model for a chunk of 32 tokens", async () => {
    const models = fakeModels(VOCAB);
    const results = await score(scoring({ models }));
    for (const model of [models.base, models.expert, models.antiexpert]) {
      expect(model.scoredTokens.map(({ length }) => length)).toEqual([32, 32, 27]);
      expect([model.batchSizes, model.openCount]).toEqual([[], 0]);
    }
    expect(results).toHaveLength(91);
  });

  test("are reported for candidates too: the likeliest tokens, or given ones", async () => {
    const models = fakeModels(VOCAB);
    const withCandidates = (candidates: CandidateOptions) =>
      score({ ...scoring({ models }), analysis: { logprobs: 3, trace: false, candidates } });
    for (const { analysis } of await withCandidates({ top: 3 })) {
      const { top } = analysis.logprobs!;
      expect(analysis.candidates).toEqual({
        ids: top.map(({ id }) => id),
        logprobs: top.map(({ value }) => value),
      });
    }
    const all = Array.from({ length: VOCAB }, (_, id) => id);
    for (const { token, analysis } of await withCandidates({ ids: all })) {
      const { ids, logprobs } = analysis.candidates!;
      expect(ids).toBeUndefined();
      expect(logprobs[token]).toBe(analysis.logprobs!.logprob);
      expect(logprobs.reduce((sum, logprob) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 3);
    }
  });

  test("are the base's at alpha 0, where only the base runs", async () => {
    const models = fakeModels(VOCAB);
    const results = await score(scoring({ models, alpha: 0 }));
    for (const { token, analysis } of results) {
      const { base, expert, antiexpert, steered, kl, baseToken } = analysis.trace!;
      expect([expert, antiexpert, kl]).toEqual([null, null, 0]);
      expect(steered).toBe(base);
      expect(baseToken === token).toBe(analysis.logprobs!.top[0]!.id === token);
    }
    expect(results.some(({ token, analysis }) => analysis.trace!.baseToken !== token)).toBe(true);
    expect(models.expert.openedCount).toBe(0);
  });
});

describe("scoring a text", () => {
  test("continues where an earlier attempt ended", async () => {
    const models = fakeModels(VOCAB);
    const whole = await score(scoring({ models }));
    for (const cut of [1, 31, 32, 50, 90]) {
      const resume = textOf(VOCAB).slice(0, cut);
      expect(await score(scoring({ models, resume }))).toEqual(whole.slice(cut));
    }
  });

  test.each([true, false])(
    "gives the same beside others as alone, and the others continue (speculative: %s)",
    async (speculate) => {
      const models = fakeModels(VOCAB);
      const generated: RequestOptions = {
        models,
        maxTokens: 12,
        sampling: { logitBias: [[EOS, -1000]] },
      };
      const alone = [await score(scoring({ models })), await runSteps(generated)] as const;
      const batch = new Batch({ speculate });
      const sequences = [
        batch.add(scoring({ models }))!,
        batch.add(generateRequest(generated))!,
        batch.add(scoring({ models, alpha: 0.5 }))!,
      ] as const;
      const results = new Map<Sequence, { token: number; analysis: TokenAnalysis | null }[]>(
        sequences.map((sequence) => [sequence, []]),
      );
      for (let count = 0; batch.size > 0; count++) {
        for (const step of await batch.step()) {
          if ("error" in step) throw step.error;
          results.get(step.sequence)!.push({ token: step.token, analysis: step.analysis });
        }
        expect(results.get(sequences[1])!.length).toBeGreaterThanOrEqual(Math.min(12, count + 1));
      }
      expect(results.get(sequences[0])).toEqual(alone[0]);
      expect(results.get(sequences[1])!.map(({ token }) => token)).toEqual(
        alone[1].map(({ token }) => token),
      );
      expect(results.get(sequences[2])).toEqual(await score(scoring({ models, alpha: 0.5 })));
    },
  );

  test("fails alone if a model has no finite logits, also with caches that cannot rewind", async () => {
    const models = fakeModels(VOCAB, { canRewind: false });
    const failingDecoder = new FakeDecoder(
      (ids) => noiseLogits(1, VOCAB)(ids).fill(ids.length > 20 ? Number.NaN : 1, 0, VOCAB),
      { canRewind: false },
    );
    const batch = new Batch();
    const failing = batch.add(scoring({ models: { ...models, base: failingDecoder } }))!;
    const other = batch.add(scoring({ models }, [1, 2, 3]))!;
    const errors: Sequence[] = [];
    const fine: Sequence[] = [];
    while (batch.size > 0) {
      for (const step of await batch.step()) ("error" in step ? errors : fine).push(step.sequence);
    }
    expect(errors).toEqual([failing]);
    expect(fine.filter((sequence) => sequence === other)).toHaveLength(3);
    expect([failingDecoder.openCount, models.base.openCount, models.expert.openCount]).toEqual([
      0, 0, 0,
    ]);
  });
});
