import { expect, test } from "vitest";
import { costOf, firstTokenTimes, profileReport, type Load } from "./profile-report.ts";
import type { ModelRun } from "./run-log.ts";

const run = (session: number, startMs: number, wallMs: number): ModelRun => ({
  session,
  startMs,
  wallMs,
  cpuMs: wallMs / 2,
});

test("the first token is compared with each model's first two runs; drafts and later runs do not count", () => {
  const runs = [
    run(0, 5, 10),
    // The request begins.
    run(0, 110, 20),
    run(1, 131, 4),
    run(1, 136, 2),
    run(1, 139, 2),
    run(0, 142, 8),
    // The first token arrives.
    run(0, 156, 8),
  ];
  const [times] = firstTokenTimes([{ startMs: 100, firstMs: 155, tokens: 9 }], runs);
  expect(times).toEqual({
    firstTokenMs: 55,
    modelMs: 34,
    beforeMs: 10,
    betweenMs: 4,
    afterMs: 5,
  });
});

test("the models' runs are no part of the worker's processor time, nor is this command", () => {
  const before = { worker: 1_000, edge: 50, "this command": 5 };
  const after = { worker: 1_500, edge: 80, "this command": 500 };
  const requests = [
    { startMs: 0, firstMs: 1, tokens: 4 },
    { startMs: 0, firstMs: 1, tokens: 6 },
  ];
  expect(costOf(requests, [run(0, 0, 600), run(1, 1, 200)], { before, after })).toEqual({
    requests: 2,
    tokens: 10,
    modelMs: 400,
    aroundMs: { worker: 100, edge: 30 },
  });
});

test("short and long replies tell the costs of a token and of a request apart", () => {
  const load = (tokens: number): Load => ({
    requests: 10,
    tokens,
    aroundMs: { worker: 10 * 3 + tokens * 0.5, edge: 10 + tokens * 0.7 },
    modelMs: 1,
  });
  const firstTokens = [40, 60].map((firstTokenMs) => ({
    firstTokenMs,
    modelMs: 40,
    beforeMs: 0,
    betweenMs: 0,
    afterMs: 0,
  }));
  const machine = { cores: 2, cpu: "", memoryGiB: 1, node: "" };
  const report = profileReport({
    machine,
    options: {},
    firstTokens,
    loads: [load(40), load(640)],
  });
  const rounded = report.around.map(({ part, msPerToken, msPerRequest }) => [
    part,
    msPerToken.toFixed(2),
    msPerRequest.toFixed(2),
  ]);
  expect(rounded).toEqual([
    ["worker", "0.50", "3.00"],
    ["edge", "0.70", "1.00"],
    ["all", "1.20", "4.00"],
  ]);
  expect(report.targets.map(({ isMet }) => isMet)).toEqual([true, false]);
});
