/** A short chaos run, with the same faults every time (one seed); `npm run chaos` makes long runs. */
import { afterAll, expect, test } from "vitest";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { runChaos } from "../chaos/run.ts";

afterAll(stopAllChildren);

/** The time of the faults, and then the time that a busy machine needs to finish all jobs. */
const TIMEOUT_MS = 300_000;

test(
  "every guarantee holds while parts are killed, frozen and restarted",
  { timeout: TIMEOUT_MS },
  async () => {
    const report = await runChaos({
      seed: 1,
      seconds: 15,
      clients: 8,
      requests: 12,
      log: () => {},
    });
    expect(report.violations).toEqual([]);
    expect(report.jobs["succeeded"]).toBeGreaterThan(0);
    expect(Object.keys(report.faults).length).toBeGreaterThan(3);
    expect(report.guarantees.every(({ kept }) => kept > 0)).toBe(true);
  },
);
