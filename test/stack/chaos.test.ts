/** A short run of chaos, with the same faults from the same seed every time; `npm run chaos` makes long ones. */
import { afterAll, expect, test } from "vitest";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { runChaos } from "../chaos/run.ts";

afterAll(stopAllChildren);

/** Faults, and then as long as a busy machine needs to end everything. */
const TIMEOUT_MS = 300_000;

test(
  "every promise holds while parts are killed, frozen and restarted",
  { timeout: TIMEOUT_MS },
  async () => {
    const report = await runChaos({
      seed: 1,
      seconds: 20,
      clients: 8,
      requests: 12,
      say: () => {},
    });
    expect(report.violations).toEqual([]);
    expect(report.jobs["succeeded"]).toBeGreaterThan(0);
    expect(Object.keys(report.faults).length).toBeGreaterThan(3);
    expect(report.verdicts.every(({ kept }) => kept > 0)).toBe(true);
  },
);
