/** A vitest reporter for test.ts: it writes the counts of the run to a file, and prints nothing. */
import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";
import * as v from "valibot";

/** The environment variable with the path of the file. */
export const COUNTS_FILE_VARIABLE = "TRIMTAB_TEST_COUNTS";

export const TestCounts = v.object({ files: v.number(), passed: v.number(), failed: v.number() });

export default class TestCountsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const states = modules.flatMap((module) => {
      const tests = [...module.children.allTests()].map((test) => test.result().state);
      // A file that could not be loaded has no tests; it counts as one failed test.
      return tests.length === 0 && module.state() === "failed" ? ["failed"] : tests;
    });
    const count = (state: string) => states.filter((other) => other === state).length;
    const counts = { files: modules.length, passed: count("passed"), failed: count("failed") };
    writeFileSync(process.env[COUNTS_FILE_VARIABLE]!, JSON.stringify(counts));
  }
}
