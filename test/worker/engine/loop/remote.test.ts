/** A base that tells only its most likely tokens: the same tokens as with the whole distribution. */
import { describe, expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { GenerateRequest, Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { RemoteBase } from "../../../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../../../worker/engine/remote/remote-decoder.ts";
import type { BaseApi } from "../../../../worker/engine/remote/api.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../../../worker/engine/remote/apis/vllm.ts";
import type { BaseRoutes } from "../../../support/base-server/server.ts";
import type { ServedModel } from "../../../support/base-server/model.ts";
import { sglangRoutes } from "../../../support/base-server/sglang.ts";
import { vllmRoutes } from "../../../support/base-server/vllm.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import {
  generateRequest,
  NO_EOS,
  runTokens,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";

const VOCAB = 40;

/** A server and its adapter; the base tells `top` tokens. */
type Serve = (model: ServedModel, top: number) => { api: BaseApi; routes: BaseRoutes };

const SERVERS: Readonly<Record<string, Serve>> = {
  "llama.cpp": (model) => ({ api: llamaCpp(), routes: llamaRoutes(model) }),
  vllm: (model, top) => ({ api: vllm("m", top), routes: vllmRoutes(model, top) }),
  sglang: (model) => ({ api: sglang(), routes: sglangRoutes(model) }),
};

/** The same models with the base behind an API. */
function withRemoteBase(models: Models, server: Serve, top: number): Models {
  const { logitsOf } = models.base as FakeDecoder;
  const served = server({ logits: async (ids) => logitsOf(ids), vocabSize: VOCAB }, top);
  return { ...models, base: inProcess({ ...served, vocabSize: VOCAB, top }) };
}

const NUCLEUS = { guards: { baseNucleus: 0.6 } };
const CASES: readonly (readonly [string, Omit<RequestOptions, "models">])[] = [
  ["greedy", { sampling: { temperature: 0 } }],
  ["temperature 0.7", { sampling: { temperature: 0.7 } }],
  ["temperature 1.5, alpha 0.5", { alpha: 0.5, sampling: { temperature: 1.5 } }],
  ["negative alpha", { alpha: -0.7 }],
  ["top-k", { sampling: { topK: 5 } }],
  ["top-p", { sampling: { topP: 0.8 } }],
  ["top-k, top-p, min-p", { sampling: { topK: 12, topP: 0.9, minP: 0.05, temperature: 0.8 } }],
  ["penalties", { sampling: { presencePenalty: 0.4, frequencyPenalty: 0.3 } }],
  ["logit bias", { sampling: { logitBias: [[3, 4] as const, [9, -100] as const] } }],
  ["base nucleus", NUCLEUS],
  ["base nucleus, KL budget", { guards: { baseNucleus: 0.6, klBudget: 0.3 } }],
  ["KL budget", { guards: { klBudget: 0.3 } }],
  ["fallback", { guards: { fallback: 0.5 } }],
  ["alpha 0", { alpha: 0 }],
  ["resumed", { resume: [4, 5, 6] }],
];

test.each(CASES)(
  "%s: the same tokens from each server, with drafts and without",
  async (_, options) => {
    for (const [seed, [name, server]] of Object.entries(SERVERS).entries()) {
      const models = fakeModels(VOCAB);
      const { logitBias = [], ...sampling } = options.sampling ?? {};
      const full = {
        ...options,
        sampling: { seed, ...sampling, logitBias: [NO_EOS, ...logitBias] },
      };
      const expected = await runTokens({ ...full, models }, { speculate: false });
      for (const top of [5, 12, 40]) {
        // vLLM cannot be asked for a longer list, which two guards need.
        if (name === "vllm" && top < 40 && options.guards) continue;
        for (const speculate of [false, true]) {
          const remote = withRemoteBase(fakeModels(VOCAB), server, top);
          expect(await runTokens({ ...full, models: remote }, { speculate })).toEqual(expected);
          const pair = [remote.expert, remote.antiexpert] as FakeDecoder[];
          expect(pair.map(({ openCount }) => openCount)).toEqual([0, 0]);
        }
      }
    }
  },
);

test("KL budget: a token that is unlikely enough to be unlisted, and that steering makes likely, decides the alpha", async () => {
  const [size, top, rare] = [400, 300, 399];
  const shift = (id: number) => (id === rare ? 13.5 : 2 * Math.sin(id * id));
  const logits = (of: (id: number) => number) =>
    new FakeDecoder(() => Float32Array.from({ length: size }, (_, id) => of(id)));
  // The list ends above the mass of the rare token, which has nearly all of the rest.
  const base = logits((id) => (id < top ? -id / 40 : id === rare ? Math.log(3e-4) : -30));
  const models = { base, expert: logits(shift), antiexpert: logits(() => 0), vocabSize: size };
  const served = { logits: async (ids: readonly number[]) => base.logitsOf(ids), vocabSize: size };
  const options = { guards: { klBudget: 0.5 } };
  for (let seed = 0; seed < 12; seed++) {
    const sampling = { seed, logitBias: [NO_EOS] };
    const expected = await runTokens({ ...options, sampling, models }, { speculate: false });
    const api = inProcess({ api: sglang(), routes: sglangRoutes(served), vocabSize: size, top });
    const remote = { ...models, base: api };
    expect(await runTokens({ ...options, sampling, models: remote })).toEqual(expected);
  }
});

test("a position where the schedule has alpha 0 needs no guards", async () => {
  const tokens = async (models: Models) => {
    const options = { models, guards: { baseNucleus: 0.999 }, sampling: { logitBias: [NO_EOS] } };
    const schedule = [[0, 0] as const, [1_000, 0] as const, [1_001, 1] as const];
    const request = { ...generateRequest(options), schedule };
    const drawn: number[] = [];
    for await (const step of generate(request)) drawn.push(step.token);
    return drawn;
  };
  const remote = withRemoteBase(fakeModels(VOCAB), SERVERS["vllm"]!, 12);
  expect(await tokens(remote)).toEqual(await tokens(fakeModels(VOCAB)));
});

test("drafts that the base confirms save calls", async () => {
  const same = () => new FakeDecoder(noiseLogits(1, VOCAB));
  const models = { base: same(), expert: same(), antiexpert: same(), vocabSize: VOCAB };
  const calls = async (speculate: boolean) => {
    // Without the choice of a drafter, which depends on measured times.
    const batch = new Batch({ speculate, drafter: "expert" });
    const options = {
      models: withRemoteBase(models, SERVERS["sglang"]!, 12),
      sampling: { logitBias: [NO_EOS] },
    };
    // Expert and base are equal and have the same prompt, so every draft is right.
    const prompts = { base: [1, 2], expert: [1, 2], antiexpert: [1, 2] };
    const sequence = batch.add(generateRequest({ ...options, prompts, maxTokens: 24 }))!;
    const counts = sequence.remote!;
    while (batch.size > 0) if (!(await batch.ready())) await batch.step();
    expect(counts.certified).toBe(24);
    return counts.calls - counts.asked;
  };
  expect(await calls(false)).toBe(24);
  expect(await calls(true)).toBeLessThan(12);
});

describe("a server that cannot be asked for more", () => {
  /** It tells the five most likely tokens, and takes no ids. */
  const capped: Serve = (model) => ({
    api: { ...vllm("m", 5), ids: null },
    routes: vllmRoutes(model, 5),
  });
  const run = (baseErrorMax: number, options: Partial<RequestOptions> = {}) => {
    const models = withRemoteBase(fakeModels(VOCAB), capped, 5);
    const request = generateRequest({ ...options, models, sampling: { logitBias: [NO_EOS] } });
    return collect({ ...request, baseErrorMax, analysis: { logprobs: null, trace: true } });
  };

  test("the job fails, and the error names the base, the bound and the remedies", async () => {
    await expect(run(0)).rejects.toMatchObject({
      code: "base_failed",
      message: expect.stringMatching(
        /^The base model base: token \d+ is not proven.*0\.\d+.*base_error_max is 0/,
      ),
    });
  });

  test("while a KL budget is not decided, nothing bounds the error", async () => {
    await expect(run(0.99, { guards: { klBudget: 0.3 } })).rejects.toThrow(
      "may be 1.0 (total variation)",
    );
  });

  test("with steering.base_error_max the trace has the bound of each token, and the counts the largest", async () => {
    const { sequence, errors } = await run(1);
    const bounded = errors.filter((error) => error > 0);
    expect(errors).toHaveLength(24);
    expect(bounded.length).toBeGreaterThan(0);
    expect(sequence.remote).toMatchObject({
      certified: 24 - bounded.length,
      bounded: bounded.length,
      errorMax: Math.max(...bounded),
      asked: 0,
    });
  });
});

test("base_error_action `base`: a token beyond the bound is the base's own, and it is counted", async () => {
  const capped: Serve = (model) => ({
    api: { ...vllm("m", 5), ids: null },
    routes: vllmRoutes(model, 5),
  });
  const options = { sampling: { temperature: 0, logitBias: [NO_EOS] } };
  const request = generateRequest({
    ...options,
    models: withRemoteBase(fakeModels(VOCAB), capped, 5),
  });
  const tokens: number[] = [];
  const alphas: number[] = [];
  let sequence: Sequence | null = null;
  const analysis = { logprobs: null, trace: true };
  for await (const step of generate({ ...request, fallsBackToBase: true, analysis })) {
    sequence = step.sequence;
    alphas.push(step.analysis!.trace!.alpha);
    // Proven all the same: the base's likeliest token is known.
    expect(step.analysis!.baseError).toBe(0);
    // The token of the local models here, with this alpha.
    const models = fakeModels(VOCAB);
    const local = { ...options, models, alpha: alphas.at(-1)!, resume: [...tokens] };
    const [expected] = await runTokens({ ...local, maxTokens: tokens.length + 1 });
    expect(step.token).toBe(expected);
    tokens.push(step.token);
  }
  const fellBack = alphas.filter((alpha) => alpha === 0).length;
  expect(fellBack).toBeGreaterThan(0);
  expect(fellBack).toBeLessThan(24);
  expect(sequence!.remote).toMatchObject({ certified: 24, bounded: 0, fellBack, errorMax: 0 });
});

async function collect(request: GenerateRequest) {
  const errors: number[] = [];
  let sequence: Sequence | null = null;
  for await (const step of generate(request)) {
    sequence = step.sequence;
    errors.push(step.analysis!.baseError!);
  }
  return { sequence: sequence!, errors };
}

/** A base that never answers. */
function silentBase(onStart: () => void, onAbort: () => void): RemoteDecoder {
  const base = new RemoteBase({
    api: sglang(),
    connection: {
      call: ({ signal }) =>
        new Promise((_, reject) => {
          onStart();
          signal.addEventListener("abort", () => {
            onAbort();
            reject(signal.reason as Error);
          });
        }),
      close: async () => {},
      beforeTry: async () => {},
      onFailure: () => {},
      onAway: () => {},
      onDisconnect: () => {},
    },
    name: "slow",
    vocabSize: VOCAB,
    top: 5,
    rowsMax: 4,
  });
  return new RemoteDecoder(base);
}

test("a slow base makes its own rows slow and no others; an abort ends its call", async () => {
  const models = fakeModels(VOCAB);
  let aborted = false;
  const started = Promise.withResolvers<void>();
  const base = silentBase(started.resolve, () => (aborted = true));
  const batch = new Batch();
  const options = { maxTokens: 12, sampling: { logitBias: [NO_EOS] } };
  const slow = batch.add(generateRequest({ ...options, models: { ...models, base } }))!;
  const local = batch.add(generateRequest({ ...options, models }))!;
  while (local.tokens.length < 12) if (!(await batch.ready())) await batch.step();
  await started.promise;
  expect(slow.tokens).toEqual([]);
  // Only the slow sequence is left: the loop waits without taking steps.
  const waiting = batch.ready();
  batch.wake();
  expect(await waiting).toBe(true);
  batch.remove(slow);
  expect(aborted).toBe(true);
});

test("sequences that wait for their base add nothing to the runs of others", async () => {
  const models = fakeModels(VOCAB);
  const base = silentBase(
    () => {},
    () => {},
  );
  const batch = new Batch();
  const options = { maxTokens: 12, sampling: { logitBias: [NO_EOS] } };
  for (let i = 0; i < 4; i++) {
    batch.add(generateRequest({ ...options, models: { ...models, base } }));
  }
  for (let step = 0; step < 8; step++) await batch.step();
  const sizes = [models.base, models.expert, models.antiexpert].map(({ batchSizes }) => batchSizes);
  expect(sizes[1]).toContain(4);
  for (const own of sizes) own.length = 0;
  const local = batch.add(generateRequest({ ...options, models }))!;
  while (local.tokens.length < 12) await batch.step();
  // The first token comes with the prompt.
  expect(sizes).toEqual(sizes.map(() => Array.from({ length: 11 }, () => 1)));
});

test("a text is scored in small chunks while a sequence waits for its remote base", async () => {
  const models = fakeModels(VOCAB);
  const chunksBeside = async (others: readonly GenerateRequest[]) => {
    const batch = new Batch();
    for (const request of others) batch.add(request);
    const text = Array.from({ length: 40 }, () => 7);
    batch.add({ ...generateRequest({ models, maxTokens: 40 }), forcedTokens: text });
    return (await batch.step()).length;
  };
  const base = silentBase(
    () => {},
    () => {},
  );
  expect(await chunksBeside([])).toBe(32);
  expect(await chunksBeside([generateRequest({ models: { ...models, base } })])).toBe(1);
});
