/** npm packages that some commands need and the project does not depend on: each set has a folder in `.trimtab/`, installed once. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../infra/stack/user-error.ts";

const FOLDER = join(import.meta.dirname, "../../.trimtab");

/**
 * Installs packages unless they are there.
 * @param name of the folder; it should contain the version of the main package
 * @param packages with their versions, as npm's command line takes them
 * @returns the folder; programs in it can import the packages
 * @throws UserError if there is no package registry
 */
export function installNodeTools(name: string, packages: readonly string[]): string {
  const folder = join(FOLDER, name);
  const stamp = join(folder, "installed");
  if (existsSync(stamp)) return folder;
  console.log(`${name}: installing into ${folder} (only once)`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"private": true, "type": "module"}');
  const args = ["install", "--no-audit", "--no-fund", ...packages];
  const { status } = spawnSync("npm", args, { cwd: folder, stdio: "inherit" });
  if (status !== 0) throw new UserError(`npm ${args.join(" ")} failed`);
  writeFileSync(stamp, "");
  return folder;
}
