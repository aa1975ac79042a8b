/** A worker's report of its engine's last minute. */
import { expect, test } from "vitest";
import {
  emptyDraftCounts,
  emptyModelCounts,
  type EngineStats,
  type ModelCounts,
} from "../../../worker/engine-client/messages.ts";
import { EngineMeter } from "../../../worker/jobs/engine-meter.ts";

const LIMITS = { cacheBytesMax: 100, prefixBytesMax: 50 };

const stats = (counts: Partial<ModelCounts>, changes: Partial<EngineStats> = {}): EngineStats => ({
  models: new Map([["demo", { ...emptyModelCounts(), ...counts }]]),
  stepMs: [],
  running: 0,
  waiting: 0,
  awaitsBase: false,
  cacheBytes: 0,
  prefixBytes: 0,
  ...changes,
});

test("tokens count for a minute, shares are those of the sums, and memory is that of the last report", () => {
  let nowMs = 1_000;
  const meter = new EngineMeter(LIMITS, () => nowMs);
  const nothing = { tokensPerSecond: 0, acceptance: null, cachedShare: null, waiting: 0 };
  expect(meter.report()).toEqual({ ...nothing, cacheBytes: 0, prefixBytes: 0, ...LIMITS });

  nowMs += 10_000;
  const drafts = { ...emptyDraftCounts(), expert: { drafted: 8, accepted: 2 } };
  meter.add(stats({ generatedTokens: 300, promptTokens: 10, cachedTokens: 4, drafts }));
  meter.add(
    stats(
      {
        generatedTokens: 100,
        promptTokens: 30,
        drafts: { ...emptyDraftCounts(), lookup: { drafted: 2, accepted: 2 } },
      },
      { waiting: 3, cacheBytes: 70, prefixBytes: 20 },
    ),
  );
  expect(meter.report()).toEqual({
    tokensPerSecond: 40,
    acceptance: 0.4,
    cachedShare: 0.1,
    waiting: 3,
    cacheBytes: 70,
    prefixBytes: 20,
    ...LIMITS,
  });

  nowMs += 50_000;
  expect(meter.report().tokensPerSecond).toBeCloseTo(400 / 60);
  nowMs += 10_001;
  expect(meter.report()).toMatchObject({ ...nothing, waiting: 3, cacheBytes: 70 });
});
