// @ts-check
/**
 * Installs programs from Debian's packages where that needs no password. Plain JavaScript without packages, because bootstrap.mjs
 * runs it before the packages are installed.
 */
import { spawnSync } from "node:child_process";

const REDIS_MIN = { major: 6, minor: 2 };

/**
 * @typedef Program
 * @property {string} command the command that must exist afterwards; it is tried with `--version`
 * @property {string} debianPackage
 * @property {string} remedy how the user can do without the package, as the end of a sentence
 */

/**
 * Installs a program with apt-get if it is missing.
 * @param {Program} program
 * @param {(line: string) => void} log called with a line before an installation
 * @returns {string | null} why it cannot be installed and what the user can do; null if it is there
 */
export function installProblem({ command, debianPackage, remedy }, log) {
  if (hasCommand(command, "--version")) return null;
  const isRoot = process.getuid !== undefined && process.getuid() === 0;
  const asRoot = isRoot ? [] : ["sudo", "-n"];
  const hasApt = hasCommand("apt-get", "--version");
  const byHand = hasApt
    ? `install it, then run this command again:\n\n    ${isRoot ? "" : "sudo "}apt-get update && ${isRoot ? "" : "sudo "}apt-get install -y ${debianPackage}\n\nor ${remedy}`
    : remedy;
  if (!hasApt || !(isRoot || hasCommand("sudo", "-n", "true"))) {
    return `${command} is not installed: ${byHand}`;
  }
  /** @param {string[]} args */
  const apt = (...args) => {
    const [first = "", ...rest] = [...asRoot, "apt-get", ...args];
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    return spawnSync(first, rest, { env, encoding: "utf8" });
  };
  log(`${command} is not installed; installing it with apt-get`);
  // A fresh image has no package lists, so apt-get finds nothing. If the update fails, older lists may be enough.
  apt("update", "-qq");
  const result = apt("install", "-y", "-qq", "--no-install-recommends", debianPackage);
  if (result.status === 0 && hasCommand(command, "--version")) return null;
  const reason = (result.stderr || "").trim().split("\n").slice(-1)[0];
  return `${command} could not be installed with apt-get (${reason}): ${byHand}`;
}

/**
 * Installs redis-server if it is missing. REDIS_SERVER names another command, such as valkey-server.
 * @param {(line: string) => void} log
 * @param {boolean} canUseUrl whether the command also accepts a server at REDIS_URL
 * @returns {string | null} as `installProblem`
 */
export function redisProblem(log, canUseUrl) {
  if (canUseUrl && process.env["REDIS_URL"]) return null;
  const url = canUseUrl ? ", or set REDIS_URL to a server that runs" : "";
  const remedy = `install Redis ${REDIS_MIN.major}.${REDIS_MIN.minor} or newer in another way${url}`;
  const command = process.env["REDIS_SERVER"] || "redis-server";
  const program = { command, debianPackage: command, remedy };
  const problem = installProblem(program, log);
  if (problem !== null) return problem;
  const output = spawnSync(command, ["--version"], { encoding: "utf8" }).stdout;
  const version = /v=(\d+)\.(\d+)/.exec(output);
  if (version === null) return null;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const isOld = major < REDIS_MIN.major || (major === REDIS_MIN.major && minor < REDIS_MIN.minor);
  return isOld ? `${command} ${major}.${minor} is too old: ${remedy}` : null;
}

/**
 * @param {string} command
 * @param {string[]} args
 */
function hasCommand(command, ...args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
