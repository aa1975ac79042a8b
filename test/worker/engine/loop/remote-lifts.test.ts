/** Tokens that a remote base tells beside its most likely ones, because they could win. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import type { BaseApi } from "../../../../worker/engine/remote/api.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import type { BaseRoutes } from "../../../support/base-server/server.ts";
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

test("a question about a token waits for the end of a stream that goes along it", async () => {
  const local = fakeModels(VOCAB);
  const { logitsOf } = local.base;
  const routes = llamaRoutes({ logits: async (ids) => logitsOf(ids), vocabSize: VOCAB });
  /** The latest stream: the length of its last row's context, and the rows that are still to come. */
  let stream = { length: 0, toCome: 0 };
  /** Questions about positions whose later rows have all come. */
  let afterEnd = 0;
  const watched: BaseRoutes = async (path, body) => {
    const { length } = (body["prompt"] as number[][])[0]!;
    const reply = await routes(path, body);
    if (!body["stream"]) {
      const isQuestion = body["logit_bias"] !== undefined && length < stream.length;
      if (isQuestion && stream.toCome === 0) afterEnd++;
      return reply;
    }
    const count = Number(body["n_predict"]);
    const own = { length: length + count - 1, toCome: count };
    stream = own;
    async function* events() {
      for await (const event of reply!.events!) {
        if ((event as { tokens?: unknown[] } | null)?.tokens?.length) own.toCome--;
        yield event;
        // The loop sees the row before the next one comes.
        for (let turn = 0; turn < 5; turn++) await nextTurn();
      }
    }
    return { ...reply!, events: events() };
  };
  for (let seed = 0; seed < 12; seed++) {
    const sampling = { seed, temperature: 0.7, logitBias: [NO_EOS] };
    const expected = await runTokens(
      { sampling, maxTokens: 8, models: local },
      { speculate: false },
    );
    const base = inProcess({ api: llamaCpp(), routes: watched, vocabSize: VOCAB, top: 6 });
    const batch = new Batch({ speculate: true, drafter: "lead" });
    const models = { ...fakeModels(VOCAB), base };
    const { tokens } = batch.add(generateRequest({ sampling, maxTokens: 8, models }))!;
    while (batch.size > 0) if (!(await batch.ready())) await batch.step();
    expect(tokens).toEqual(expected);
  }
  expect(afterEnd).toBeGreaterThan(0);
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
