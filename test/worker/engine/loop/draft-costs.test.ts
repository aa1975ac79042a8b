/** The cost of drafting: a slow first time does not end it, and it does not grow with the prompt. */
import { beforeEach, expect, test, vi } from "vitest";
import { totalDrafts } from "../../../../worker/engine-client/messages.ts";
import type { Constraint } from "../../../../worker/engine/decode/sampler.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { sglang } from "../../../../worker/engine/remote/apis/sglang.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { sglangRoutes } from "../../../support/base-server/sglang.ts";
import { generateRequest, NO_EOS, type RequestOptions } from "../../../support/decode-loop.ts";
import { fakeClock, FakeDecoder } from "../../../support/fake-decoder.ts";

const VOCAB = 2000;
const SAME = { base: [1, 2, 3], expert: [1, 2, 3], antiexpert: [1, 2, 3] };
const sampling = { logitBias: [NO_EOS] };

beforeEach(() => {
  vi.spyOn(performance, "now").mockImplementation(() => fakeClock.ms);
});

/** The three models are the same, so all drafts are right. Each token follows the one before it in the vocabulary. */
function models() {
  const logits = (ids: readonly number[]) => {
    const next = 1 + (ids.at(-1)! % (VOCAB - 1));
    return new Float32Array(VOCAB).fill(50, next, next + 1);
  };
  return {
    base: new FakeDecoder(logits, { runMs: 10 }),
    expert: new FakeDecoder(logits),
    antiexpert: new FakeDecoder(logits),
    vocabSize: VOCAB,
  };
}

async function run(options: RequestOptions) {
  const batch = new Batch();
  const sequence = batch.add(generateRequest(options))!;
  while (batch.size > 0) if (!(await batch.ready())) await batch.step();
  return sequence;
}

test("the expert drafts again after choosing its first drafts took long", async () => {
  let slowCalls = 12;
  const slowAtFirst = (): Constraint => ({
    isComplete: false,
    mask: () => {
      if (slowCalls-- > 0) fakeClock.ms += 3_000;
    },
    accept: () => {},
    rewind: () => {},
  });
  const options = { models: models(), prompts: SAME, sampling, constrain: slowAtFirst };
  const { drafts } = await run({ ...options, maxTokens: 200 });
  expect(totalDrafts(drafts).drafted).toBeGreaterThan(60);
});

/** An array that counts how often its elements are read. */
function counted(ids: readonly number[]) {
  const reads = { count: 0 };
  const get = (target: readonly number[], key: string | symbol, receiver: unknown): unknown => {
    if (typeof key === "string" && /^\d+$/.test(key)) reads.count++;
    return Reflect.get(target, key, receiver);
  };
  return { ids: new Proxy(ids, { get }), reads };
}

test.each(["local", "remote"])(
  "a token reads little of a long prompt with a %s base",
  async (kind) => {
    const prompt = Array.from({ length: 1500 }, (_, i) => 1 + i);
    const readsFor = async (maxTokens: number) => {
      const { ids, reads } = counted(prompt);
      const local = models();
      const served = {
        logits: async (text: readonly number[]) => local.base.logitsOf(text),
        vocabSize: VOCAB,
      };
      const remote = () =>
        inProcess({ api: sglang(), routes: sglangRoutes(served), vocabSize: VOCAB, top: 64 });
      const used = kind === "remote" ? { ...local, base: remote() } : local;
      const { tokens, baseCalls } = await run({
        models: used,
        prompts: { ...SAME, base: ids },
        sampling,
        maxTokens,
      });
      expect(tokens).toHaveLength(maxTokens);
      return { reads: reads.count, calls: kind === "remote" ? baseCalls : 0 };
    };
    const [few, many] = [await readsFor(4), await readsFor(24)];
    // Each call of a remote base sends the prompt.
    const sent = (many.calls - few.calls) * prompt.length;
    expect(many.reads - few.reads - sent).toBeLessThan(prompt.length);
  },
);
