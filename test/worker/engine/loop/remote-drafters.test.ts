/** All drafters of a remote base against each other: random requests give the tokens of a run with local models. */
import { expect, test } from "vitest";
import type { DraftSource } from "../../../../worker/engine-client/messages.ts";
import { GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import type { Constraint } from "../../../../worker/engine/decode/sampler.ts";
import { Batch, type BatchOptions } from "../../../../worker/engine/loop/batch.ts";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../../../worker/engine/remote/apis/vllm.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import { sglangRoutes } from "../../../support/base-server/sglang.ts";
import { vllmRoutes } from "../../../support/base-server/vllm.ts";
import {
  generateRequest,
  NO_EOS,
  runTokens,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { FakeDecoder, noiseLogits } from "../../../support/fake-decoder.ts";

const VOCAB = 40;
const REQUESTS = 18;
const TOKENS = 24;
const TOP = 16;
const DRAFTERS = [
  "none",
  "expert",
  "lookup",
  "base",
  "expert and base",
  "lead",
  undefined,
] as const;

/** Models that agree often: each is a common model with some noise. Only the last two tokens matter, so texts repeat. */
function models(): Models {
  const common = noiseLogits(9, VOCAB);
  const model = (salt: number) => {
    const own = noiseLogits(salt, VOCAB);
    return new FakeDecoder((ids) => {
      const last = ids.slice(-2);
      const noise = own(last);
      return common(last).map((logit, id) => 2 * logit + 0.8 * noise[id]!);
    });
  };
  return { base: model(1), expert: model(2), antiexpert: model(3), vocabSize: VOCAB };
}

/** Forbids a third of the tokens, another one after each. */
function everyThird(): Constraint {
  let count = 0;
  const isForbidden = (id: number) => (id + count * 7) % 3 === 0;
  return {
    isComplete: false,
    mask: (logits) => {
      for (let id = 0; id < VOCAB; id++) if (isForbidden(id)) logits[id] = Number.NEGATIVE_INFINITY;
    },
    accept: (token) => {
      if (isForbidden(token)) throw new Error(`token ${token} is forbidden`);
      count++;
    },
    rewind: (tokens) => (count -= tokens),
  };
}

function randomRequest(seed: number): Omit<RequestOptions, "models"> {
  const noise = new GumbelNoise(seed);
  let draws = 0;
  const next = () => {
    noise.seek(draws++);
    return Math.exp(-Math.exp(-noise.at(0)));
  };
  const pick = <T>(...values: readonly T[]) => values[Math.floor(next() * values.length)]!;
  const guards = pick(
    {},
    {},
    { baseNucleus: pick(0.5, 0.8) },
    { fallback: 0.3 },
    { klBudget: 0.4 },
  );
  const temperature = pick(0, 0, 0.5, 0.7, 1, 1.3);
  return {
    alpha: pick(1, 1, 0.6, -0.5, 0),
    prompts: { base: [1, 2, 3], expert: [2, 3], antiexpert: [5, 2, 3] },
    maxTokens: TOKENS,
    guards,
    sampling: {
      seed,
      temperature,
      topK: pick(0, 0, 6),
      topP: pick(1, 1, 0.8),
      minP: pick(0, 0, 0.05),
      repetitionPenalty: pick(1, 1, 1.2),
      presencePenalty: pick(0, 0.3),
      logitBias: [NO_EOS, [7, pick(0, 2)] as const],
    },
    ...(pick(false, false, true) && { constrain: everyThird }),
  };
}

test("random requests: every drafter gives the tokens of the local run, and each is used", async () => {
  const local = models();
  const accepted = new Map<string, number>();
  const served = {
    logits: async (ids: readonly number[]) => (local.base as FakeDecoder).logitsOf(ids),
    vocabSize: VOCAB,
  };
  const servers = [
    { name: "llama.cpp", api: llamaCpp(), routes: llamaRoutes(served), top: TOP },
    // It tells no list above its cap, which a KL budget needs.
    { name: "vllm", api: vllm("m", VOCAB), routes: vllmRoutes(served, VOCAB), top: VOCAB },
    { name: "sglang", api: sglang(), routes: sglangRoutes(served), top: TOP },
  ];
  for (let seed = 0; seed < REQUESTS; seed++) {
    const options = randomRequest(seed);
    // The repetition penalty sees log-probabilities, and logits in a local run.
    const reference =
      options.sampling!.repetitionPenalty === 1
        ? await runTokens({ ...options, models: models() }, { speculate: false })
        : null;
    let first = reference;
    for (const { name, api, routes, top } of servers) {
      for (const drafter of DRAFTERS) {
        const base = inProcess({ api, routes, vocabSize: VOCAB, top });
        const remote = { ...models(), base };
        const result = await run({ ...options, models: remote }, drafter);
        first ??= result.tokens;
        expect({ seed, drafter, tokens: result.tokens }).toEqual({ seed, drafter, tokens: first });
        const pair = [remote.expert, remote.antiexpert] as FakeDecoder[];
        expect(pair.map(({ openCount }) => openCount)).toEqual([0, 0]);
        for (const [source, counts] of Object.entries(result.drafts)) {
          const key = `${name}, ${drafter}: ${source}`;
          accepted.set(key, (accepted.get(key) ?? 0) + counts.accepted);
        }
      }
    }
  }
  const used = servers.flatMap(({ name, api }) => [
    `${name}, expert: expert`,
    `${name}, lookup: lookup`,
    ...(api.stream ? [`${name}, base: base`, `${name}, expert and base: base`] : []),
    ...(api.stream?.canLead ? [`${name}, lead: expert`, `${name}, lead: base`] : []),
  ]);
  expect(used.filter((key) => !accepted.get(key))).toEqual([]);
  expect(accepted.get("llama.cpp, none: expert")).toBe(0);
});

test("streams without the row of their first position: rows are called for from then on", async () => {
  const local = models();
  for (let first = 0; first < 8; first++) {
    const routes = llamaRoutes({
      logits: async (ids) => (local.base as FakeDecoder).logitsOf(ids),
      vocabSize: VOCAB,
      isPartial: (id) => id % 2 === 0,
    });
    let calls = 0;
    const counted: typeof routes = (path, body) => {
      if (++calls > 4 * TOKENS) throw new Error("the base is called without an end");
      return routes(path, body);
    };
    const base = inProcess({ api: llamaCpp(7), routes: counted, vocabSize: VOCAB, top: VOCAB });
    const options = {
      prompts: { base: [1, first, 3], expert: [first, 3], antiexpert: [5, first, 3] },
      maxTokens: TOKENS,
      sampling: { temperature: 0, logitBias: [NO_EOS] },
    };
    const expected = await runTokens({ ...options, models: models() }, { speculate: false });
    const remote = { ...options, models: { ...models(), base } };
    const { tokens } = await run(remote, "expert and base");
    expect(tokens).toEqual(expected);
    // One for each token, and the streams: the first one without that row is the last.
    expect(calls).toBeLessThanOrEqual(TOKENS + 1);
  }
});

test("a server that does not follow leads: one is tried, and then the base's own stream", async () => {
  const local = models();
  const routes = llamaRoutes({
    logits: async (ids) => (local.base as FakeDecoder).logitsOf(ids),
    vocabSize: VOCAB,
  });
  let leads = 0;
  const deaf: typeof routes = (path, { grammar, ...body }) => {
    if (grammar !== undefined) leads++;
    return routes(path, body);
  };
  const options = {
    prompts: { base: [1, 2, 3], expert: [2, 3], antiexpert: [5, 2, 3] },
    maxTokens: TOKENS,
    sampling: { temperature: 0, logitBias: [NO_EOS] },
  };
  const expected = await runTokens({ ...options, models: models() }, { speculate: false });
  // Its first token is one that the base says too, in some of these texts.
  const base = inProcess({ api: llamaCpp(), routes: deaf, vocabSize: VOCAB, top: VOCAB });
  const { tokens, drafts } = await run({ ...options, models: { ...models(), base } }, "lead");
  expect(tokens).toEqual(expected);
  expect(leads).toBeGreaterThan(0);
  expect(leads).toBeLessThan(TOKENS / 2);
  expect(drafts.base.accepted).toBeGreaterThan(0);
});

async function run(options: RequestOptions, drafter: BatchOptions["drafter"]) {
  const batch = new Batch({ speculate: true, ...(drafter && { drafter }) });
  const sequence = batch.add(generateRequest(options))!;
  const tokens: number[] = [];
  while (batch.size > 0) {
    if (await batch.ready()) continue;
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      tokens.push(step.token);
    }
  }
  const drafts: Readonly<Record<DraftSource, { accepted: number }>> = sequence.drafts;
  return { tokens, drafts };
}
