/** Python packages that some commands need: each set has a virtual environment in `.trimtab/`, installed once. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "./user-error.ts";

const FOLDER = join(import.meta.dirname, "../../.trimtab");

/**
 * Installs packages unless they are there.
 * @param name of the environment; it should contain the version of the main package
 * @param packages as pip's command line takes them
 * @returns the folder of the environment's programs
 * @throws UserError if there is no suitable Python or no package registry
 */
export function installPythonTools(name: string, packages: readonly string[]): string {
  const environment = join(FOLDER, name);
  const programs = join(environment, "bin");
  const stamp = join(environment, "installed");
  if (existsSync(stamp)) return programs;
  console.log(`${name}: installing into ${environment} (only once)`);
  const steps = [
    ["python3", "-m", "venv", environment],
    [join(programs, "pip"), "install", "--quiet", ...packages],
    ["touch", stamp],
  ];
  for (const [command, ...args] of steps) {
    const { status } = spawnSync(command!, args, { stdio: "inherit" });
    if (status === 0) continue;
    throw new UserError(`${command} ${args.join(" ")} failed; Python 3.10 or newer is needed`);
  }
  return programs;
}
