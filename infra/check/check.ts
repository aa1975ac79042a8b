/**
 * `npm run check`: everything about the code that can be checked without running it: format, lint, types, which folder
 * imports which, dead code, hashes in lock files. `npm run check -- lint types` runs only the steps that are named.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { stopOnInterrupt } from "../stack/interrupt.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { stopAllChildren } from "../stack/process.ts";
import { runSteps, type CheckStep } from "./steps.ts";

const ROOT = join(import.meta.dirname, "../..");
/** The folders with the project's code. Code in the repository's root, such as a scratch file, is not checked. */
const CODE_FOLDERS = ["shared", "edge", "worker", "infra", "test"];
/** Each has a tsconfig.json. */
const TYPED_FOLDERS = [
  "test",
  "infra",
  "worker",
  "edge",
  "edge/server",
  "edge/play/client",
  "edge/admin/client",
  "test/edge",
  ".",
];
/** tsc's incremental state: the next run checks only the files that a change affects. */
const TYPES_CACHE = join(ROOT, "node_modules/.cache/tsc");

/** The longest first, because two run at a time. */
const STEPS: Readonly<Record<string, readonly CheckStep[]>> = {
  types: TYPED_FOLDERS.map((folder) => {
    const cache = join(TYPES_CACHE, `${folder.replaceAll("/", "-")}.tsbuildinfo`);
    const args = ["-p", folder, "--incremental", "--tsBuildInfoFile", cache];
    return { name: `types of ${folder === "." ? "shared" : folder}`, command: "tsc", args };
  }),
  lint: [{ name: "lint", command: "oxlint", args: ["--type-aware", ...CODE_FOLDERS] }],
  format: [{ name: "format", command: "oxfmt", args: ["--check", ".", "!/*.{ts,js,mjs,cjs}"] }],
  folders: [
    {
      name: "folders",
      command: process.execPath,
      args: [join(import.meta.dirname, "folders.ts")],
    },
  ],
  "lock-files": [
    {
      name: "lock-files",
      command: process.execPath,
      args: [join(import.meta.dirname, "lock-files.ts")],
    },
  ],
  "dead-code": [{ name: "dead-code", command: "knip", args: ["--no-progress"] }],
};

/**
 * Runs the named steps, or every step if no name is given, and prints the result of each.
 * @returns the names of the steps that failed
 * @throws UserError if a name is unknown
 */
export async function runChecks(
  names: readonly string[],
  interrupted: AbortSignal,
): Promise<string[]> {
  const unknown = names.find((name) => !Object.hasOwn(STEPS, name));
  if (unknown !== undefined) {
    throw new UserError(
      `There is no step ${unknown}; the steps are ${Object.keys(STEPS).join(", ")}`,
    );
  }
  mkdirSync(TYPES_CACHE, { recursive: true });
  const steps = Object.entries(STEPS).flatMap(([name, steps]) =>
    names.length === 0 || names.includes(name) ? steps : [],
  );
  return runSteps(steps, interrupted);
}

if (import.meta.main) {
  process.chdir(ROOT);
  const interrupted = stopOnInterrupt();
  try {
    const failed = await runChecks(process.argv.slice(2), interrupted);
    if (failed.length > 0) console.log(`failed: ${failed.join(", ")}`);
    process.exitCode = failed.length === 0 ? 0 : 1;
  } catch (error) {
    console.error(errorText(error));
    process.exitCode = 1;
  } finally {
    await stopAllChildren();
  }
}
