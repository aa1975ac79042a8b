/** Memory, processor time and connections of a running stack. */
import { setTimeout as delay } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { Child } from "../../infra/stack/process.ts";
import { quantile } from "../bench/statistics.ts";
import { processorMsOfGroup, residentBytesOfGroup } from "./processes.ts";

const SAMPLE_MS = 500;

export interface ConnectionCounts {
  /** Before the first stream: those of the edge, the workers and this command. */
  readonly idle: number;
  readonly median: number;
  readonly max: number;
}

export type Parts = Readonly<Record<string, Child>>;

/** Samples memory and connections every 500 ms until the signal aborts. */
export async function sampleResources(
  parts: Parts,
  redis: readonly Redis[],
  end: AbortSignal,
): Promise<{ memoryMiB: Record<string, number>; redisConnections: ConnectionCounts }> {
  const idle = await countConnections(redis);
  const memoryMiB: Record<string, number> = {};
  const counts: number[] = [];
  while (!end.aborted) {
    for (const [name, { pid }] of Object.entries(parts)) {
      const mib = residentBytesOfGroup(pid ?? 0) / 2 ** 20;
      memoryMiB[name] = Math.max(memoryMiB[name] ?? 0, mib);
    }
    counts.push(await countConnections(redis));
    await delay(SAMPLE_MS, null, { signal: end }).catch(() => {});
  }
  counts.sort((a, b) => a - b);
  return {
    memoryMiB,
    redisConnections: { idle, median: quantile(counts, 0.5), max: quantile(counts, 1) },
  };
}

/** Processor time so far of each part, and of this command, in ms. */
export function processorMs(parts: Parts): Record<string, number> {
  const { user, system } = process.cpuUsage();
  return {
    ...Object.fromEntries(
      Object.entries(parts).map(([name, { pid }]) => [name, processorMsOfGroup(pid ?? 0)]),
    ),
    "this command": (user + system) / 1000,
  };
}

/** Those of all servers together. */
async function countConnections(redis: readonly Redis[]): Promise<number> {
  const replies = await Promise.all(redis.map((each) => each.info("clients")));
  const counts = replies.map((reply) => Number(/connected_clients:(\d+)/.exec(reply)?.[1]));
  return counts.reduce((sum, count) => sum + count, 0);
}
