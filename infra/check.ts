/**
 * `npm test`: format, lint, types, then the tests; stops at the first step that fails.
 * Arguments go to vitest: `npm test -- --project unit`. The last line is `N passed, N failed`, for machines.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { stopOnInterrupt } from "./stack/interrupt.ts";
import { explain } from "./stack/problem.ts";
import { Child, stopAllChildren } from "./stack/process.ts";
import { ensureRedisServer } from "./stack/redis.ts";

const ROOT = join(import.meta.dirname, "..");
const TYPED_FOLDERS = [".", "edge", "worker", "infra", "test", "test/edge"];

/** What we read of vitest's JSON report. */
const Report = v.object({
  numPassedTests: v.number(),
  numFailedTests: v.number(),
  testResults: v.array(v.object({ status: v.string(), assertionResults: v.array(v.unknown()) })),
});

process.chdir(ROOT);
const interrupted = stopOnInterrupt();
const folder = await mkdtemp(join(tmpdir(), "trimtab-check-"));
try {
  process.exitCode = (await check()) ? 0 : 1;
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
  await rm(folder, { recursive: true, force: true });
}

async function check(): Promise<boolean> {
  const steps: [name: string, command: string, ...args: string[]][] = [
    ["format", "oxfmt", "--check"],
    ["lint", "oxlint", "--type-aware"],
    ...TYPED_FOLDERS.map((folder): [string, string, ...string[]] => {
      return [`types of ${folder}`, "tsc", "-p", folder];
    }),
  ];
  for (const [name, command, ...args] of steps) {
    if (await succeeds(name, command, args)) continue;
    console.log(`\n${name}: failed; no test was run\n0 passed, 1 failed`);
    return false;
  }
  ensureRedisServer(console.log);
  return runTests(process.argv.slice(2));
}

async function runTests(args: readonly string[]): Promise<boolean> {
  const reportFile = join(folder, "report.json");
  const green = await succeeds("tests", "vitest", [
    "run",
    "--config=test/vitest.config.ts",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${reportFile}`,
    ...args,
  ]);
  const report = v.parse(Report, JSON.parse(await readFile(reportFile, "utf8")));
  // A file that could not be loaded holds no test, so vitest counts no failed one.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.length === 0,
  ).length;
  const failed = report.numFailedTests + broken;
  if (!green && failed === 0) console.log("\nevery test passed, but the run failed: see above");
  console.log(`\n${report.numPassedTests} passed, ${failed} failed`);
  return green && failed === 0;
}

async function succeeds(name: string, command: string, args: readonly string[]): Promise<boolean> {
  console.log(`\n${name}: ${[command, ...args].join(" ")}`);
  const child = new Child({ name, command, args, inherit: true });
  const { code } = await child.exited;
  // A step that was stopped did not fail; the process ends now.
  if (interrupted.aborted) await new Promise(() => {});
  return code === 0;
}
