/**
 * What every npm script starts with: `node infra/bootstrap.mjs <script.ts> [args]`.
 * Installs the packages if they are missing or older than package-lock.json, then runs the script on the Node 24 among
 * them. Plain JavaScript without dependencies, because it runs on the Node that the machine happens to have (20 or newer).
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR_MIN = 20;
const root = fileURLToPath(new URL("..", import.meta.url));
const lockFile = join(root, "package-lock.json");
const modules = join(root, "node_modules");
/** Written by npm when it has finished, so an interrupted installation does not have it. */
const npmStamp = join(modules, ".package-lock.json");
/** Holds the hash of the lock file that was installed. */
const ourStamp = join(modules, ".trimtab-installed");
const node = join(modules, ".bin", "node");

const [script, ...args] = process.argv.slice(2);

if (script === undefined) {
  fail("usage: node infra/bootstrap.mjs <script.ts> [arguments]");
}
if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
  fail(`trimtab needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.versions.node}`);
}
installPackages();
run(script, args);

function installPackages() {
  const wanted = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  if (isInstalled(wanted)) return;
  console.log("packages: installing with npm ci (once; a minute or so)");
  const started = Date.now();
  const npm = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: "inherit",
    // Without the first line its install script fails wherever it cannot reach the CUDA libraries' host. The second
    // keeps npm off the Node that it is about to replace, which npm itself puts first when it runs our scripts.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip", PATH: pathWithoutModules() },
  });
  if (npm.error !== undefined) fail(`packages: npm could not be started (${npm.error.message})`);
  if (npm.status !== 0) fail(`packages: npm ci failed (${npm.signal ?? `exit ${npm.status}`})`);
  const found = spawnSync(node, ["--version"], { encoding: "utf8" });
  if (found.status !== 0) {
    fail(`packages: the npm package "node" has no binary that runs on ${process.platform}`);
  }
  writeFileSync(ourStamp, wanted);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`packages: installed in ${seconds} s, with Node ${found.stdout.trim()}`);
}

/** True also for what a developer's own `npm install` left, which is as new as the lock file that it wrote. */
function isInstalled(wanted) {
  if (!existsSync(npmStamp) || !existsSync(node)) return false;
  if (existsSync(ourStamp) && readFileSync(ourStamp, "utf8") === wanted) return true;
  if (statSync(npmStamp).mtimeMs < statSync(lockFile).mtimeMs) return false;
  writeFileSync(ourStamp, wanted);
  return true;
}

function pathWithoutModules() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.filter((folder) => !folder.startsWith(modules)).join(delimiter);
}

/**
 * Runs the script in a process group of its own, so that a Ctrl-C, which a terminal sends to a whole group (and npm
 * passes on once more), reaches it once and from here only. The IPC channel tells it when this process is gone.
 */
function run(script, args) {
  const child = spawn(node, [script, ...args], {
    detached: true,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    // The tools that a script starts run on this Node too.
    env: { ...process.env, PATH: join(modules, ".bin") + delimiter + pathWithoutModules() },
  });
  const repeatMs = 500;
  let lastMs = 0;
  const forward = (signal) => {
    if (Date.now() - lastMs < repeatMs) return;
    lastMs = Date.now();
    child.kill(signal);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, forward);
  // npm does not pass on every signal that ends it, and what it started would go on without it.
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.env.npm_lifecycle_event === undefined || process.ppid === parent) return;
    clearInterval(watch);
    forward("SIGTERM");
  }, 1_000);
  child.on("error", (error) => fail(`${script}: ${error.message}`));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

function fail(line) {
  console.error(line);
  process.exit(1);
}
