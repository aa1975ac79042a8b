/** Rows with lifted tokens: ratios of probabilities are the base's, and unlisted tokens are below their bounds. */
import { expect, test } from "vitest";
import { llamaCpp } from "../../../../worker/engine/remote/apis/llama-cpp.ts";
import { likeliest, logSoftmax } from "../../../support/base-server/logits.ts";
import { llamaRoutes } from "../../../support/base-server/llama-cpp.ts";
import { noiseLogits } from "../../../support/fake-decoder.ts";

const VOCAB = 60;
const TOP = 12;

test("lifted, unlisted and later asked tokens", async () => {
  const api = llamaCpp();
  let [lifted, unlisted] = [0, 0];
  for (let seed = 0; seed < 40; seed++) {
    const logits = noiseLogits(seed, VOCAB);
    const routes = llamaRoutes({
      logits: async (context) => Float32Array.from(logits(context), (logit) => 3 * logit),
      vocabSize: VOCAB,
    });
    const context = [1, seed % VOCAB];
    const exact = logSoftmax(Float32Array.from(logits(context), (logit) => 3 * logit));
    const unlikely = likeliest(exact, VOCAB).slice(TOP);
    const lifts = new Map(
      unlikely.filter((id) => id % 2 === 0).map((id) => [id, 1.2345 + (id % 7)]),
    );
    const query = { context, drafts: [], top: TOP, lifts, salt: "" };
    const { path, body } = api.rows(query);
    const reply = (await routes(path, body as Record<string, unknown>))!.body;
    const [row] = api.parseRows(reply, query, VOCAB).rows;
    const [known, value] = row!.known;
    // The values are those of the base, up to one constant.
    const offset = value - exact[known]!;
    expect(offset).toBeLessThan(1e-5);
    expect(row!.seen.size).toBe(TOP);
    for (const [id, logprob] of row!.seen) expect(logprob - offset).toBeCloseTo(exact[id]!, 5);
    const hidden = likeliest(exact, VOCAB).filter((id) => !row!.seen.has(id));
    for (const id of hidden) {
      expect(exact[id]! + offset).toBeLessThanOrEqual(row!.unseenMax - row!.below(id) + 1e-4);
    }
    const mass = hidden.reduce((sum, id) => sum + Math.exp(exact[id]! + offset), 0);
    expect(mass).toBeLessThanOrEqual(row!.restMax + 1e-6);
    lifted += [...row!.seen.keys()].filter((id) => lifts.has(id)).length;
    unlisted += hidden.filter((id) => row!.below(id) > 0).length;
    // With all tokens known, nothing is left.
    const asking = { context, ids: hidden, known: row!.known, salt: "" };
    const { path: idsPath, body: idsBody } = api.ids!.call(asking);
    const told = (await routes(idsPath, idsBody as Record<string, unknown>))!.body;
    const whole = row!.withAsked(api.ids!.parse(told, asking));
    expect(whole.seen.size).toBe(VOCAB);
    expect(whole.rest).toBeLessThan(1e-3);
  }
  expect(lifted).toBeGreaterThan(40);
  expect(unlisted).toBeGreaterThan(40);
});
