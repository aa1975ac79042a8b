/**
 * Every npm script runs through this file: `node infra/bootstrap.mjs <script.ts> [args]`.
 * It installs the packages if they are missing or older than package-lock.json. Then it runs the script on Node 24,
 * which is one of the packages. It is plain JavaScript without dependencies, because the machine's own Node runs it,
 * which may be any version from 20.
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
/** npm writes it at the end, so an interrupted installation does not have it. */
const npmStamp = join(modules, ".package-lock.json");
/** Contains the hash of the lock file that was installed. */
const hashFile = join(modules, ".trimtab-installed");
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
  const lockHash = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  if (isInstalled(lockHash)) return;
  console.log("packages: installing with npm ci (once; a minute or so)");
  const started = Date.now();
  const npm = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: "inherit",
    // ONNXRUNTIME_NODE_INSTALL: otherwise the package's install script downloads CUDA libraries, and fails where it
    // cannot. PATH: `npm run` puts node_modules/.bin first, but npm must not run on the Node that it replaces.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip", PATH: pathWithoutModules() },
  });
  if (npm.error !== undefined) fail(`packages: npm could not be started (${npm.error.message})`);
  if (npm.status !== 0) fail(`packages: npm ci failed (${npm.signal ?? `exit ${npm.status}`})`);
  const version = spawnSync(node, ["--version"], { encoding: "utf8" });
  if (version.status !== 0) {
    fail(`packages: the npm package "node" has no binary that runs on ${process.platform}`);
  }
  writeFileSync(hashFile, lockHash);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`packages: installed in ${seconds} s, with Node ${version.stdout.trim()}`);
}

/** Also true after a developer's own `npm install`, which leaves packages as new as the lock file that it wrote. */
function isInstalled(lockHash) {
  if (!existsSync(npmStamp) || !existsSync(node)) return false;
  if (existsSync(hashFile) && readFileSync(hashFile, "utf8") === lockHash) return true;
  if (statSync(npmStamp).mtimeMs < statSync(lockFile).mtimeMs) return false;
  writeFileSync(hashFile, lockHash);
  return true;
}

function pathWithoutModules() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.filter((folder) => !folder.startsWith(modules)).join(delimiter);
}

/**
 * Runs the script in a separate process group. A terminal sends Ctrl-C to its whole group, and npm forwards it again;
 * so the script receives it once, from this process only. The IPC channel closes when this process ends, which the
 * script notices.
 */
function run(script, args) {
  const child = spawn(node, [script, ...args], {
    detached: true,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    // The tools that a script starts must run on the same Node.
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
  // npm does not forward every signal that ends it, and the script would continue without it.
  const parent = process.ppid;
  const watchParent = setInterval(() => {
    if (process.env.npm_lifecycle_event === undefined || process.ppid === parent) return;
    clearInterval(watchParent);
    forward("SIGTERM");
  }, 1_000);
  child.on("error", (error) => fail(`${script}: ${error.message}`));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
