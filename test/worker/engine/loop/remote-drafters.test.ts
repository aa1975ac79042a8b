/** All drafters of a remote base against each other: random requests give the tokens of a run with local models. */
import { expect, test } from "vitest";
import type { DraftSource } from "../../../../worker/engine-client/messages.ts";
import { GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import type { Constraint } from "../../../../worker/engine/decode/sampler.ts";
import { Batch, type BatchOptions } from "../../../../worker/engine/loop/batch.ts";
import type { ForcedDrafter } from "../../../../worker/engine/loop/remote-policy.ts";
import type { Models } from "../../../../worker/engine/model/ensemble.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { vllm } from "../../../../worker/engine/remote/apis/vllm.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import type { BaseRoutes } from "../../../support/base-server/server.ts";
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

const GREEDY = {
  prompts: { base: [1, 2, 3], expert: [2, 3], antiexpert: [5, 2, 3] },
  maxTokens: TOKENS,
  sampling: { temperature: 0, logitBias: [NO_EOS] },
};

/** Sequences over one base, one after the other. They share its load. */
async function runEach(
  routes: BaseRoutes,
  drafter: ForcedDrafter,
  count = 1,
  prompts = GREEDY.prompts,
) {
  const batch = new Batch({ speculate: true, drafter });
  const base = inProcess({ api: llamaCpp(), routes, vocabSize: VOCAB, top: VOCAB });
  const expected = await runTokens({ ...GREEDY, prompts, models: models() }, { speculate: false });
  for (let i = 0; i < count; i++) {
    const { tokens } = await runIn(batch, { ...GREEDY, prompts, models: { ...models(), base } });
    expect(tokens).toEqual(expected);
  }
}

function servedRoutes() {
  const local = models();
  const logits = async (ids: readonly number[]) => (local.base as FakeDecoder).logitsOf(ids);
  return llamaRoutes({ logits, vocabSize: VOCAB });
}

test("a server that refuses leads: one is tried for all sequences", async () => {
  const routes = servedRoutes();
  let leads = 0;
  const refusing: BaseRoutes = async (path, body) => {
    if (body["grammar"] === undefined) return routes(path, body);
    leads++;
    return { status: 400, body: { error: { message: "failed to parse grammar" } } };
  };
  await runEach(refusing, "lead", 3);
  expect(leads).toBe(1);
});

test("a broken stream is no refusal: rows follow, and then streams with leads", async () => {
  const routes = servedRoutes();
  const kinds: string[] = [];
  const breaking: BaseRoutes = (path, body) => {
    const kind = body["grammar"] !== undefined ? "lead" : body["stream"] ? "stream" : "row";
    kinds.push(kind);
    if (kinds.filter((one) => one === "lead").length === 1 && kind === "lead") {
      throw new Error("socket hang up");
    }
    return routes(path, body);
  };
  await runEach(breaking, "lead");
  expect(kinds.slice(0, 4)).toEqual(["row", "lead", "row", "lead"]);
});

test("a server that breaks every stream: a sequence tries three", async () => {
  const routes = servedRoutes();
  let streams = 0;
  const breaking: BaseRoutes = (path, body) => {
    if (!body["stream"]) return routes(path, body);
    streams++;
    throw new Error("socket hang up");
  };
  await runEach(breaking, "lead");
  expect(streams).toBe(3);
});

test("a stream goes to the slot of its context; none is named after several prompts", async () => {
  for (const [drafter, expected] of [
    ["lead", [undefined, 5]],
    ["expert and base", [undefined]],
  ] as const) {
    const routes = servedRoutes();
    const slots = new Set<unknown>();
    const watched: BaseRoutes = (path, body) => {
      slots.add(body["id_slot"]);
      // The server takes its sixth slot for a call that names none.
      return routes(path, { id_slot: 5, ...body });
    };
    await runEach(watched, drafter);
    expect([...slots]).toEqual(expected);
  }
});

test("of two sequences in one slot, only the one that was there last asks for it", async () => {
  const routes = servedRoutes();
  const pinned = new Set<number>();
  const watched: BaseRoutes = (path, body) => {
    if (body["id_slot"] !== undefined) pinned.add((body["prompt"] as number[][])[0]![0]!);
    return routes(path, { id_slot: 5, ...body });
  };
  const base = inProcess({ api: llamaCpp(), routes: watched, vocabSize: VOCAB, top: VOCAB });
  const batch = new Batch({ speculate: true, drafter: "lead" });
  for (const first of [1, 2]) {
    const prompts = { ...GREEDY.prompts, base: [first, 2, 3] };
    batch.add(generateRequest({ ...GREEDY, prompts, models: { ...models(), base } }));
  }
  while (batch.size > 0) {
    if (!(await batch.ready())) await batch.step();
  }
  expect([...pinned]).toEqual([2]);
});

test("after a slot that another worker has taken, no call names a slot", async () => {
  const routes = servedRoutes();
  /** Calls since the first one that did not find its context in the slot that it named; null before. */
  let namedSince: boolean[] | null = null;
  const watched: BaseRoutes = async (path, body) => {
    const isNamed = body["id_slot"] !== undefined;
    const reply = await routes(path, { id_slot: 5, ...body });
    namedSince?.push(isNamed);
    if (!isNamed || body["stream"]) return reply;
    namedSince ??= [];
    Object.assign(reply!.body as object, { "timings/cache_n": 0 });
    return reply;
  };
  const prompts = { ...GREEDY.prompts, base: Array.from({ length: 50 }, (_, id) => id % VOCAB) };
  await runEach(watched, "lead", 4, prompts);
  expect(namedSince!.length).toBeGreaterThan(10);
  expect(namedSince).not.toContain(true);
});

async function run(options: RequestOptions, drafter: BatchOptions["drafter"]) {
  return runIn(new Batch({ speculate: true, ...(drafter && { drafter }) }), options);
}

async function runIn(batch: Batch, options: RequestOptions) {
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
