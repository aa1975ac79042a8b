/**
 * `npm run fuzz`: schemathesis makes requests up from the OpenAPI document and sends them to every real part at once. It
 * looks for server errors, for replies that are not as the document says, for what is let in or refused against it, and
 * for calls that work without a key. Arguments go to schemathesis: `npm run fuzz -- --include-path /v1/jobs`.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { startEdge } from "../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { explain, Problem } from "../../infra/stack/problem.ts";
import { Child, stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, ensureRedisServer, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import { Policy } from "../../shared/policy.ts";

const VERSION = "4.32.5";
const ROOT = join(import.meta.dirname, "../..");
const FOLDER = join(ROOT, ".trimtab");
const VENV = join(FOLDER, `schemathesis-${VERSION}`);
/** Requests of each kind for each call; bounded so that all of it takes a few minutes. */
const EXAMPLES = 20;
/** Longer than any reply waits but a stream, which ends with its job. */
const TIMEOUT_SECONDS = 90;

stopOnInterrupt();
try {
  ensureRedisServer(console.log);
  installSchemathesis();
  process.exitCode = await fuzz(process.argv.slice(2));
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}

function installSchemathesis(): void {
  const program = join(VENV, "bin/schemathesis");
  if (existsSync(program)) return;
  console.log(`schemathesis: installing into ${VENV} (once)`);
  const steps = [
    ["python3", "-m", "venv", VENV],
    [join(VENV, "bin/pip"), "install", "--quiet", `schemathesis==${VERSION}`],
  ];
  for (const [command, ...args] of steps) {
    const { status } = spawnSync(command!, args, { stdio: "inherit" });
    if (status !== 0)
      throw new Problem(`${command} ${args.join(" ")} failed; Python 3.10 or newer is needed`);
  }
}

async function fuzz(args: readonly string[]): Promise<number> {
  const { url: redisUrl } = await startRedis();
  const [edge, redis] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
  ]);
  const scopes: Policy["scopes"] = ["jobs:write", "jobs:read", "admin"];
  const { key } = await new KeyRegistry(redis).create("fuzz", undefined, { scopes, limits: {} });
  redis.disconnect();
  // It leaves its notes where it is started.
  process.chdir(FOLDER);
  const schemathesis = new Child({
    name: "schemathesis",
    command: join(VENV, "bin/schemathesis"),
    args: [
      "--config-file",
      join(import.meta.dirname, "schemathesis.toml"),
      "run",
      `${edge.url}/openapi.json`,
      "--header",
      `Authorization: Bearer ${key}`,
      "--max-examples",
      String(EXAMPLES),
      "--request-timeout",
      String(TIMEOUT_SECONDS),
      "--continue-on-failure",
      ...args,
    ],
    inherit: true,
  });
  return (await schemathesis.exited).code ?? 1;
}
