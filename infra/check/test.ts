/**
 * `npm test`: all checks of check.ts, the images, then all tests. With arguments, which go to vitest, it runs only the tests that match,
 * without the checks: `npm test -- sampler`, `npm test -- --project unit`, `npm test -- --watch sampler`.
 * The last line is `N passed, N failed`, for programs that read it.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { stopOnInterrupt } from "../stack/interrupt.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { Child, stopAllChildren } from "../stack/process.ts";
import { runChecks } from "./check.ts";
import { neverIfAborted, runSteps, secondsSince, type CheckStep } from "./steps.ts";
import { COUNTS_FILE_VARIABLE, TestCounts } from "./test-counts.ts";

const ROOT = join(import.meta.dirname, "../..");
const VITEST_CONFIG = "--config=test/vitest.config.ts";
const IMAGES: CheckStep = {
  name: "images",
  command: process.execPath,
  args: ["test/infra/images/checkout-images.ts"],
  printsLastLine: true,
};

const COUNTS_REPORTER = join(import.meta.dirname, "test-counts.ts");

process.chdir(ROOT);
const interrupted = stopOnInterrupt();
try {
  const succeeded = await main(process.argv.slice(2));
  process.exitCode = succeeded ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}

async function main(args: readonly string[]): Promise<boolean> {
  if (args.length > 0) {
    console.log(
      "only the tests that match; format, lint, types, folders and dead code: npm run check\n",
    );
  } else {
    const failed = await runChecks([], interrupted);
    if (failed.length === 0) failed.push(...(await runSteps([IMAGES], interrupted)));
    if (failed.length > 0) {
      console.log(`failed: ${failed.join(", ")}; no test was run\n0 passed, 1 failed`);
      return false;
    }
  }
  return args.includes("--watch") ? watchTests(args) : runTests(args);
}

async function watchTests(args: readonly string[]): Promise<boolean> {
  return (await runVitest([VITEST_CONFIG, ...args])) === 0;
}

async function runTests(args: readonly string[]): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-test-"));
  const countsFile = join(folder, "counts.json");
  const startMs = performance.now();
  try {
    const code = await runVitest(
      ["run", VITEST_CONFIG, "--reporter=default", `--reporter=${COUNTS_REPORTER}`, ...args],
      { [COUNTS_FILE_VARIABLE]: countsFile },
    );
    if (!existsSync(countsFile)) throw new UserError("vitest ended without a result: see above");
    const counts = JSON.parse(await readFile(countsFile, "utf8")) as unknown;
    const { files, passed, failed } = v.parse(TestCounts, counts);
    console.log(`\n${"tests".padEnd(20)} ${secondsSince(startMs)}`);
    if (files === 0) console.log("no test file matches");
    else if (code !== 0 && failed === 0) console.log("no test failed, but the run did: see above");
    console.log(`${passed} passed, ${failed} failed`);
    return code === 0 && failed === 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runVitest(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<number | null> {
  const vitest = new Child({ name: "vitest", command: "vitest", args, env, inherit: true });
  const { code } = await vitest.exited;
  await neverIfAborted(interrupted);
  return code;
}
