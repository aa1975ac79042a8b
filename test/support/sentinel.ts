/** Starts a Redis Sentinel that watches a local master. Its quorum is 1: it promotes a replica without other Sentinels. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { REDIS_COMMAND } from "../../infra/stack/redis.ts";

export interface Sentinel {
  readonly port: number;
  /** Resolves when the Sentinel knows the master's replica. Before, no failover is possible. */
  readonly isReady: () => Promise<void>;
  /** From now on, a master that does not answer for half a second is replaced. Before, one that is only slow must not be. */
  readonly replacesMaster: () => Promise<void>;
}

const READY_MS = 30_000;

export async function startSentinel(master: string, masterPort: number): Promise<Sentinel> {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-sentinel-"));
  const port = await freePort();
  const config = join(folder, "sentinel.conf");
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor ${master} 127.0.0.1 ${masterPort} 1`,
    `sentinel down-after-milliseconds ${master} ${READY_MS}`,
    `sentinel failover-timeout ${master} 10000`,
  ];
  await writeFile(config, lines.join("\n"));
  const child = new Child({
    name: "redis-sentinel",
    command: REDIS_COMMAND,
    args: [config, "--sentinel"],
    cleanUp: () => rm(folder, { recursive: true, force: true }),
  });
  const call = async (...args: string[]) => {
    const redis = new Redis(port, { maxRetriesPerRequest: 0, retryStrategy: () => null });
    redis.on("error", () => {});
    try {
      return await redis.call("SENTINEL", ...args);
    } finally {
      redis.disconnect();
    }
  };
  const isReady = () =>
    child.waitFor("the replica to be known", READY_MS, async () => {
      const replicas = (await call("REPLICAS", master)) as string[][];
      return replicas.length === 1 && replicas[0]!.includes("ok");
    });
  const replacesMaster = async () => {
    await call("SET", master, "down-after-milliseconds", "500");
  };
  return { port, isReady, replacesMaster };
}
