/** A server that stalls in the middle of a stream for whose end a question waits. */
import { expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import type { BaseRoutes } from "../../../support/base-server/server.ts";
import { generateRequest, NO_EOS, runTokens } from "../../../support/decode-loop.ts";
import { FakeDecoder } from "../../../support/fake-decoder.ts";

const VOCAB = 40;
const RARE = VOCAB - 1;
const TOKENS = 5;

/** The base's token wins everywhere, but after a list of four tokens only a question about the rare one proves it. */
function models() {
  const base = (ids: readonly number[]) => {
    const next = 1 + (ids.at(-1)! % 30);
    return new Float32Array(VOCAB).fill(5, 31, RARE).fill(8, next, next + 1);
  };
  return {
    base: new FakeDecoder(base),
    expert: new FakeDecoder(() => new Float32Array(VOCAB).fill(4, RARE)),
    antiexpert: new FakeDecoder(() => new Float32Array(VOCAB)),
    vocabSize: VOCAB,
  };
}

test(
  "the stream is left after the time in which its rows should have come",
  { timeout: 10_000 },
  async () => {
    const { base } = models();
    const routes = llamaRoutes({ logits: async (ids) => base.logitsOf(ids), vocabSize: VOCAB });
    let stalled = 0;
    const stalling: BaseRoutes = async (path, body) => {
      const reply = await routes(path, body);
      if (!body["stream"]) return reply;
      const events = async function* () {
        for await (const event of reply!.events!) {
          yield event;
          if (event === null) continue;
          stalled++;
          await new Promise(() => {});
        }
      };
      return { body: null, events: events() };
    };
    const options = { sampling: { temperature: 0, logitBias: [NO_EOS] }, maxTokens: TOKENS };
    const remote = inProcess({ api: llamaCpp(), routes: stalling, vocabSize: VOCAB, top: 4 });
    const batch = new Batch({ speculate: true, drafter: "base" });
    const request = generateRequest({ ...options, models: { ...models(), base: remote } });
    const sequence = batch.add(request)!;
    while (batch.size > 0) if (!(await batch.ready())) await batch.step();
    expect(sequence.tokens).toEqual(await runTokens({ ...options, models: models() }));
    // The first row comes with a longer list. The last one has no stream.
    expect(stalled).toBe(TOKENS - 2);
    expect(sequence.remote!.asked).toBe(TOKENS - 1);
  },
);
