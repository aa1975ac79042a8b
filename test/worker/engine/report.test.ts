/** What is told of tokens, across the engine thread: named, and one entry for each token. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TokenReport } from "../../../shared/reports.ts";
import { EngineClient } from "../../../worker/engine/client.ts";
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
  const told: { token: number; text: string; report: TokenReport | undefined }[] = [];
  for await (const event of engine.run("acme", generation(changes), [], never)) {
    if (event.type === "token")
      told.push({ token: event.token, text: event.text, report: event.report });
  }
  return told;
}

test("log-probabilities and trace come with each token, under its name", async () => {
  const told = await run({ logprobs: 2, trace: true, temperature: 0, logitBias: [[0, -100]] });
  expect(told).toHaveLength(8);
  const text = told.map(({ text }) => text).join("");
  expect(told.map(({ report }) => report!.logprobs!.token).join("")).toContain(text.trim());
  for (const { token, report } of told) {
    const { logprobs, trace } = report!;
    expect([logprobs!.id, trace!.id]).toEqual([token, token]);
    expect(logprobs!.top).toHaveLength(2);
    // Greedy without a penalty that matters: the token is the likeliest, unless the bias forbade that.
    expect([0, token]).toContain(logprobs!.top[0]!.id);
    expect(trace!.steered).toBe(logprobs!.logprob);
    expect(trace!.gain).toBeCloseTo(trace!.steered - trace!.base, 3);
    expect(trace!.same).toBe(trace!.base_token.id === token);
    expect(trace!.alpha).toBe(1);
  }
});

test("a schedule and guards reach the loop", async () => {
  const schedule = [
    [0, 1],
    [4, 0],
  ] as const;
  const told = await run({
    trace: true,
    schedule,
    guards: { klBudget: 0.2 },
    logitBias: [[0, -100]],
  });
  const shifts = told.map(({ report }) => report!.trace!);
  expect(shifts.slice(4).map(({ alpha, kl }) => [alpha, kl])).toEqual(
    Array.from({ length: 4 }, () => [0, 0]),
  );
  expect(Math.max(...shifts.map(({ kl }) => kl))).toBeLessThanOrEqual(0.2);
  expect(shifts[0]!.kl).toBeGreaterThan(0);
});

test("nothing is told where nothing was asked for", async () => {
  for (const { report } of await run({})) expect(report).toBeUndefined();
});
