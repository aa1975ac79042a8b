/** The frame of a command that starts processes, and the stack that such commands call. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEdge } from "../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";

/**
 * Runs a command. An error is printed and gives the exit code 1. At the end all processes that it started are stopped.
 * @param run gets a folder that is removed at the end, and returns the exit code
 */
export async function runCommand(run: (folder: string) => Promise<number>): Promise<void> {
  stopOnInterrupt();
  const folder = mkdtempSync(join(tmpdir(), "trimtab-command-"));
  try {
    process.exitCode = await run(folder);
  } catch (error) {
    console.error(errorText(error));
    process.exitCode = 1;
  } finally {
    await stopAllChildren();
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Starts Redis, an edge and a worker.
 * @param manifest of the worker
 * @param name of the API key
 */
export async function startApi(
  manifest: string,
  name: string,
): Promise<{ readonly url: string; readonly key: string }> {
  const { url: redisUrl } = await startRedis();
  const [edge, redis] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn", TRIMTAB_MODELS: manifest } }),
  ]);
  const { key } = await new KeyRegistry(redis).create(name);
  redis.disconnect();
  return { url: edge.url, key };
}
