/** Token details across the engine thread: with token texts, one entry for each token. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TokenDetail } from "../../../shared/api/token-details.ts";
import { EngineClient } from "../../../worker/engine-client/client.ts";
import { toTokenDetail } from "../../../worker/engine/token-details.ts";
import { generation } from "../../support/generation.ts";

const MANIFEST = join(import.meta.dirname, "../../../infra/models/ensembles.json");
const never = new AbortController().signal;

let engine: EngineClient;
beforeAll(async () => {
  const options = {
    manifestFile: MANIFEST,
    intraOpThreads: 1,
    cacheBytesMax: 2 ** 28,
    prefixBytesMax: 0,
  };
  engine = await EngineClient.start(options, (error) => {
    throw error;
  });
}, 60_000);
afterAll(() => engine.close());

async function run(changes: Parameters<typeof generation>[0]) {
  const tokens: { token: number; text: string; detail: TokenDetail | undefined }[] = [];
  for await (const event of engine.run("acme", generation(changes), [], never)) {
    if (event.type === "token")
      tokens.push({ token: event.token, text: event.text, detail: event.detail });
  }
  return tokens;
}

test("each token has log-probabilities and trace, with its text", async () => {
  const tokens = await run({ logprobs: 2, trace: true, temperature: 0, logitBias: [[0, -100]] });
  expect(tokens).toHaveLength(8);
  const text = tokens.map(({ text }) => text).join("");
  expect(tokens.map(({ detail }) => detail!.logprobs!.token).join("")).toContain(text.trim());
  for (const { token, detail } of tokens) {
    const { logprobs, trace } = detail!;
    expect([logprobs!.id, trace!.id]).toEqual([token, token]);
    expect(logprobs!.top).toHaveLength(2);
    // Greedy: the token is the most likely one, unless the bias forbids that (token 0).
    expect([0, token]).toContain(logprobs!.top[0]!.id);
    expect(trace!.steered).toBe(logprobs!.logprob);
    expect(trace!.gain).toBeCloseTo(trace!.steered - trace!.base, 3);
    expect(trace!.same).toBe(trace!.base_token.id === token);
    expect(trace!.alpha).toBe(1);
  }
});

test("schedule and guards are applied", async () => {
  const schedule = [
    [0, 1],
    [4, 0],
  ] as const;
  const tokens = await run({
    trace: true,
    schedule,
    guards: { klBudget: 0.2 },
    logitBias: [[0, -100]],
  });
  const shifts = tokens.map(({ detail }) => detail!.trace!);
  expect(shifts.slice(4).map(({ alpha, kl }) => [alpha, kl])).toEqual(
    Array.from({ length: 4 }, () => [0, 0]),
  );
  expect(Math.max(...shifts.map(({ kl }) => kl))).toBeLessThanOrEqual(0.2);
  expect(shifts[0]!.kl).toBeGreaterThan(0);
});

test("without logprobs and trace there are no details", async () => {
  for (const { detail } of await run({})) expect(detail).toBeUndefined();
});

test("the end token has a trace, but no log-probability: it is not a part of the output", async () => {
  const tokens = await run({ logprobs: 2, trace: true, logitBias: [[0, 100]] });
  expect(tokens.map(({ token }) => token)).toEqual([0]);
  expect(tokens[0]!.detail).toHaveProperty("trace");
  expect(tokens[0]!.detail).not.toHaveProperty("logprobs");
});

test("with log-probabilities of the prompt the end token has one too: evaluators cut the entry of the generated token", async () => {
  const promptLogprobs = { top: 1, tokensMax: 100 };
  const tokens = await run({ promptLogprobs, logprobs: 1, logitBias: [[0, 100]] });
  const output = tokens.filter(({ detail }) => detail?.prompt === undefined);
  expect(output.map(({ token }) => token)).toEqual([0]);
  expect(output[0]!.detail).toHaveProperty("logprobs.id", 0);
});

test.for([0, 1])(
  "a prompt of one token has its entry, with %i tokens of output",
  async (maxTokens) => {
    const input = { kind: "tokens", ids: [5] } as const;
    const tokens = await run({ input, promptLogprobs: { top: 1, tokensMax: 100 }, maxTokens });
    expect(tokens).toHaveLength(1 + maxTokens);
    expect(tokens[0]).toMatchObject({ token: 5, detail: { prompt: { id: 5, logprob: null } } });
  },
);

test("the trace of an accepted draft says so; that of another token has no such field", () => {
  const trace = {
    alpha: 1,
    base: -1,
    expert: -1,
    antiexpert: -1,
    steered: -1,
    gain: 0,
    kl: 0,
    baseToken: 5,
    promoted: [],
    demoted: [],
  };
  const detailOf = (isDrafted: boolean) =>
    toTokenDetail(5, { trace, isDrafted }, () => ({ token: "a" })).trace!;
  expect(detailOf(true).drafted).toBe(true);
  expect(detailOf(false)).not.toHaveProperty("drafted");
});
