/** Tokens that a remote base tells beside its most likely ones, because they could win. */
import { expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import type { BaseApi } from "../../../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import { generateRequest, NO_EOS, runTokens } from "../../../support/decode-loop.ts";
import { fakeModels } from "../../../support/fake-decoder.ts";

const VOCAB = 40;

test("lifted tokens save most of the calls that ask again", async () => {
  const runs = async (change: (api: BaseApi) => BaseApi, seed: number) => {
    const local = fakeModels(VOCAB);
    const { logitsOf } = local.base;
    const served = { logits: async (ids: readonly number[]) => logitsOf(ids), vocabSize: VOCAB };
    const api = change(llamaCpp());
    const base = inProcess({ api, routes: llamaRoutes(served), vocabSize: VOCAB, top: 16 });
    const batch = new Batch({ speculate: true, drafter: "expert" });
    const sampling = { seed, temperature: 0.7, logitBias: [NO_EOS] };
    const models = { ...local, base };
    const sequence = batch.add(generateRequest({ models, sampling, maxTokens: 24 }))!;
    const { remote } = sequence;
    while (batch.size > 0) if (!(await batch.ready())) await batch.step();
    expect(remote!.certified).toBe(24);
    return remote!.asked;
  };
  let [lifted, plain] = [0, 0];
  for (let seed = 0; seed < 8; seed++) {
    lifted += await runs((api) => api, seed);
    plain += await runs((api) => ({ ...api, liftMax: 0 }), seed);
  }
  expect(plain).toBeGreaterThan(20);
  expect(lifted).toBeLessThan(plain / 2);
});

test("a server that tells no lifted tokens where it draws a part of a character: the lists have none from then on", async () => {
  const local = fakeModels(VOCAB);
  const { logitsOf } = local.base;
  const routes = llamaRoutes({
    logits: async (ids) => logitsOf(ids),
    vocabSize: VOCAB,
    isPartial: (id) => id !== 7,
  });
  const base = inProcess({ api: llamaCpp(7), routes, vocabSize: VOCAB, top: 16 });
  const options = { sampling: { temperature: 0, logitBias: [NO_EOS] }, maxTokens: 24 };
  const expected = await runTokens({ ...options, models: local }, { speculate: false });
  const batch = new Batch({ speculate: true, drafter: "expert" });
  const sequence = batch.add(
    generateRequest({ ...options, models: { ...fakeModels(VOCAB), base } }),
  )!;
  const { remote, tokens } = sequence;
  while (batch.size > 0) if (!(await batch.ready())) await batch.step();
  expect(tokens).toEqual(expected);
  expect(remote!.reasons.unlifted).toBe(1);
});
