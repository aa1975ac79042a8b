/** A gate in the decode loop: exact by its definition however the models are run, and pairs run only where it is open. */
import { describe, expect, test } from "vitest";
import { Gate, type GateOptions } from "../../../../worker/engine/decode/gate.ts";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";
import {
  NO_EOS,
  PROMPTS,
  generateRequest,
  runTokens,
  vectorModels,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { largestDifference } from "../../../support/logits.ts";

const VOCAB = 12;
const MAX_TOKENS = 100;
/** Open at about half of the positions. */
const HALF: GateOptions = { minEntropy: 1.9 };
/** Open at a few positions. */
const RARE: GateOptions = { minEntropy: 1.9, maxMargin: 0.03 };
const sampling = { logitBias: [NO_EOS], temperature: 1, seed: 5 };
const options = (models: RequestOptions["models"], gate?: GateOptions): RequestOptions => ({
  models,
  sampling,
  maxTokens: MAX_TOKENS,
  ...(gate && { gate }),
});

/** The definition, with logits that are computed from the whole text each time. */
function reference(gate: GateOptions, text: readonly number[]) {
  const { base, expert, antiexpert } = fakeModels(VOCAB);
  const row = base.logitsOf([...PROMPTS.base, ...text]);
  const isOpen = new Gate(gate, VOCAB).isOpen(row);
  const up = expert.logitsOf([...PROMPTS.expert, ...text]);
  const down = antiexpert.logitsOf([...PROMPTS.antiexpert, ...text]);
  const logits = row.map((logit, id) => (isOpen ? logit + (up[id]! - down[id]!) : logit));
  return { isOpen, logits };
}

const runCount = ({ tokenRuns }: FakeDecoder) => tokenRuns.length;

describe.each([
  ["half of the positions", HALF],
  ["few positions", RARE],
])("a gate that is open at %s", (_, gate) => {
  test("steers exactly there, and runs the pair only there", async () => {
    const models = fakeModels(VOCAB);
    const text: number[] = [];
    let open = 0;
    for await (const { token, sequence } of generate(generateRequest(options(models, gate)))) {
      const { isOpen, logits } = reference(gate, text);
      expect(largestDifference([sequence.logits], [logits])).toBeLessThan(1e-4);
      if (isOpen) open++;
      text.push(token);
    }
    expect(text).toHaveLength(MAX_TOKENS);
    expect(open).toBeGreaterThan(0);
    expect(open).toBeLessThan(0.7 * MAX_TOKENS);
    expect(models.expert.batchSizes).toHaveLength(open);
    expect(models.antiexpert.batchSizes).toHaveLength(open);
    expect(models.base.batchSizes).toHaveLength(MAX_TOKENS);
    for (const { openCount } of [models.base, models.expert]) expect(openCount).toBe(0);
  });

  test("gives the same tokens after a takeover at any position", async () => {
    const all = await runTokens(options(fakeModels(VOCAB), gate));
    for (let at = 0; at < all.length; at++) {
      const resume = all.slice(0, at);
      const rest = await runTokens({ ...options(fakeModels(VOCAB), gate), resume });
      expect(rest).toEqual(all.slice(at));
    }
  });

  test("gives the same tokens beside others, gated and not", async () => {
    const expected = await runTokens(options(fakeModels(VOCAB), gate));
    const models = fakeModels(VOCAB);
    const batch = new Batch({ speculate: true, prefixCache: new PrefixCache(10_000) });
    const gated = batch.add({ ...generateRequest(options(models, gate)), tenant: "a" })!;
    batch.add({ ...generateRequest(options(models)), tenant: "b" });
    batch.add({ ...generateRequest({ ...options(models, HALF), maxTokens: 30 }), tenant: "a" });
    while (batch.size > 0) {
      for (const step of await batch.step()) if ("error" in step) throw step.error;
    }
    expect(gated.tokens).toEqual(expected);
  });
});

test("a gate that is always open gives the tokens of no gate; one that never opens those of the base, without a pair's run", async () => {
  const open = await runTokens(options(fakeModels(VOCAB), { minEntropy: 0 }));
  expect(open).toEqual(await runTokens(options(fakeModels(VOCAB))));
  const models = fakeModels(VOCAB);
  const closed = await runTokens({ ...options(models, { minEntropy: 10 }), maxTokens: 30 });
  const base = await runTokens({ ...options(fakeModels(VOCAB)), alpha: 0, maxTokens: 30 });
  expect(closed).toEqual(base);
  expect([runCount(models.expert), runCount(models.antiexpert)]).toEqual([0, 0]);
});

test("a pair that is not needed catches up in chunks, and stays behind by few tokens", async () => {
  const models = fakeModels(VOCAB);
  await runTokens({ ...options(models, { minEntropy: 10 }), maxTokens: 100 });
  const chunks = models.expert.prefilledTokens.map(({ length }) => length);
  expect(Math.max(...chunks)).toBeLessThanOrEqual(32);
  expect(chunks.reduce((sum, length) => sum + length)).toBeGreaterThan(100 - 34);
  expect(models.expert.batchSizes).toEqual([]);
});

test("pairs that are needed at the same position catch up in several steps, and the tokens stay the same", async () => {
  const certain = Float32Array.from({ length: VOCAB }, (_, id) => (id === 3 ? 50 : 0));
  const openAt = PROMPTS.base.length + 25;
  const base = () =>
    new FakeDecoder((ids) => (ids.length < openAt ? certain : noiseLogits(1, VOCAB)(ids)));
  const gated = (models: RequestOptions["models"], seed: number): RequestOptions => ({
    ...options(models, { minEntropy: 0.5 }),
    sampling: { ...sampling, seed },
    maxTokens: 40,
  });
  const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
  const models = { ...fakeModels(VOCAB), base: base() };
  const batch = new Batch({ speculate: false });
  const sequences = seeds.map((seed) => batch.add(generateRequest(gated(models, seed)))!);
  const caughtUp = () =>
    [...models.expert.prefilledTokens, ...models.antiexpert.prefilledTokens].flat().length;
  let most = 0;
  while (batch.size > 0) {
    const before = caughtUp();
    for (const step of await batch.step()) if ("error" in step) throw step.error;
    most = Math.max(most, caughtUp() - before);
  }
  expect(most).toBeGreaterThan(50);
  expect(most).toBeLessThanOrEqual(128);
  expect(models.base.tokenRuns.flat()).toHaveLength(seeds.length * (PROMPTS.base.length + 39));
  for (const [i, seed] of seeds.entries()) {
    const alone = await runTokens(gated({ ...fakeModels(VOCAB), base: base() }, seed));
    expect(sequences[i]!.tokens).toEqual(alone);
  }
});

test("given tokens are scored by the same rule", async () => {
  const models = fakeModels(VOCAB);
  const tokens = await runTokens(options(models, HALF));
  const request = { ...generateRequest(options(models, HALF)), forcedTokens: tokens };
  const text: number[] = [];
  for await (const { token, sequence } of generate(request)) {
    const { logits } = reference(HALF, text);
    // Of a chunk, the sequence has the logits of the last token.
    const isLast = sequence.tokens.length === text.length + 1;
    expect(largestDifference([isLast ? sequence.logits : logits], [logits])).toBeLessThan(1e-4);
    text.push(token);
  }
  expect(text).toEqual(tokens);
});

test("with several pairs and real models the logits are those of a run of all models", async () => {
  const models = await vectorModels("llama", 128);
  const pairs = [
    { models, prompts: PROMPTS, weight: 1 },
    { models: { expert: models.base, antiexpert: models.expert }, prompts: PROMPTS, weight: 0.5 },
  ];
  const gated = { ...options(models, { minEntropy: 3 }), pairs, maxTokens: 60 };
  const tokens = await runTokens(gated);
  const steered: Float32Array[] = [];
  const generated = generate(generateRequest(gated), { speculate: false });
  for await (const { sequence } of generated) steered.push(sequence.logits.slice());
  // Scored in chunks, where all models run at all positions.
  const batch = new Batch({ speculate: false });
  const scored = batch.add({ ...generateRequest(gated), forcedTokens: tokens })!;
  while (batch.size > 0) {
    for (const step of await batch.step()) if ("error" in step) throw step.error;
    const last = steered[scored.tokens.length - 1]!;
    expect(largestDifference([scored.logits], [last])).toBeLessThan(1e-3);
  }
  expect(scored.tokens).toEqual(tokens);
  expect(tokens).toHaveLength(60);
});
