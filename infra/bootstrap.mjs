/**
 * Every npm script runs through this file: `node infra/bootstrap.mjs [--redis | --redis-or-url] <script.ts> [args]`.
 * It installs the packages if they are missing or older than package-lock.json. Then it runs the script on Node 24,
 * which is one of the packages. It is plain JavaScript without dependencies, because the machine's own Node runs it,
 * which may be any version from 18. Older ones must be able to read it, so that they print the error.
 *
 * With `--redis` it first makes sure that there is a redis-server, because the packages take minutes to download; with
 * `--redis-or-url` the script can do with a server at REDIS_URL instead.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { redisProblem } from "./debian-package.mjs";

const NODE_MAJOR_MIN = 18;
const NODE_REMEDY = `On Debian and Ubuntu:

    curl -fsSL https://deb.nodesource.com/setup_24.x | sudo -E bash -
    sudo apt-get install -y nodejs
`;
const root = fileURLToPath(new URL("..", import.meta.url));
const lockFile = join(root, "package-lock.json");
const modules = join(root, "node_modules");
/** npm writes it at the end, so an interrupted installation does not have it. */
const npmStamp = join(modules, ".package-lock.json");
/** Contains the hash of the lock file that was installed. */
const hashFile = join(modules, ".trimtab-installed");
const node = join(modules, ".bin", "node");

const redisFlags = ["--redis", "--redis-or-url"];
const flag = redisFlags.find((name) => name === process.argv[2]);
const [script, ...args] = process.argv.slice(flag === undefined ? 2 : 3);

if (script === undefined) {
  fail("usage: node infra/bootstrap.mjs [--redis | --redis-or-url] <script.ts> [arguments]");
}
if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
  fail(
    `trimtab needs Node ${NODE_MAJOR_MIN} or newer to install its own; this is ${process.versions.node}. ${NODE_REMEDY}`,
  );
}
if (flag !== undefined) {
  const problem = redisProblem(console.log, flag === "--redis-or-url");
  if (problem !== null) fail(problem);
}
installPackages();
run(script, args);

function installPackages() {
  const lockHash = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  if (isInstalled(lockHash)) return;
  if (!isWritable(root)) {
    fail(`packages: ${root} is not writable for this user; the packages are installed there`);
  }
  console.log("packages: installing with npm ci (once; a download of 440 MB, 1 GB on disk)");
  const started = Date.now();
  // --no-install-links: npm 9 would otherwise expect the packages of test/infra/openapi/tools in the lock file.
  const npm = spawnSync(
    "npm",
    ["ci", "--no-install-links", "--no-audit", "--no-fund", "--loglevel=error"],
    {
      cwd: root,
      stdio: "inherit",
      // ONNXRUNTIME_NODE_INSTALL: otherwise the package's install script downloads CUDA libraries, and fails where it
      // cannot. PATH: `npm run` puts node_modules/.bin first, but npm must not run on the Node that it replaces.
      env: {
        ...process.env,
        ONNXRUNTIME_NODE_INSTALL: "skip",
        PATH: pathWithoutModules(),
        ...homeForNpm(),
      },
    },
  );
  if (npm.error !== undefined) fail(`packages: npm could not be started (${npm.error.message})`);
  if (npm.status !== 0) fail(`packages: npm ci failed (${npm.signal || `exit ${npm.status}`})`);
  const version = spawnSync(node, ["--version"], { encoding: "utf8" });
  if (version.status !== 0) {
    fail(`packages: the npm package "node" has no binary that runs on ${process.platform}`);
  }
  writeFileSync(hashFile, lockHash);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`packages: installed in ${seconds} s, with Node ${version.stdout.trim()}`);
}

/** Without a home folder, such as that of a system user, npm would end with an error about its cache. */
function homeForNpm() {
  return isWritable(homedir()) ? {} : { npm_config_cache: join(root, ".trimtab/npm-cache") };
}

function isWritable(folder) {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
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
  const folders = (process.env.PATH || "").split(delimiter);
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
