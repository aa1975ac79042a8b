/** Installs programs from Debian's packages where that needs no password. */
import { spawnSync } from "node:child_process";
import { UserError } from "./user-error.ts";

export interface Program {
  /** The command that must exist afterwards; it is tried with `--version`. */
  readonly command: string;
  readonly debianPackage: string;
  /** The end of the error message: how the user can install the program. */
  readonly remedy: string;
}

/**
 * Installs a program with apt-get if it is missing.
 * @param log called with a line before an installation
 * @throws UserError if it cannot be installed; the message says what the user can do
 */
export function ensureProgram(program: Program, log: (line: string) => void): void {
  const { command, debianPackage, remedy } = program;
  if (hasCommand(command, "--version")) return;
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  const canInstall =
    hasCommand("apt-get", "--version") && (asRoot.length === 0 || hasCommand("sudo", "-n", "true"));
  if (!canInstall) throw new UserError(`${command} is not installed: ${remedy}`);

  const apt = (...args: string[]) => {
    const [first = "", ...rest] = [...asRoot, "apt-get", ...args];
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    return spawnSync(first, rest, { env, encoding: "utf8" });
  };
  log(`${command} is not installed; installing it with apt-get`);
  // A fresh image has no package lists, so apt-get finds nothing. If the update fails, older lists may be enough.
  apt("update", "-qq");
  const result = apt("install", "-y", "-qq", "--no-install-recommends", debianPackage);
  if (result.status === 0 && hasCommand(command, "--version")) return;
  const reason = result.stderr?.trim().split("\n").at(-1) ?? "";
  throw new UserError(`${command} could not be installed with apt-get (${reason}): ${remedy}`);
}

function hasCommand(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
