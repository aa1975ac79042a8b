/** A number of streams for a while, and what was seen of them and of the processes that served them. */
import { setTimeout as delay } from "node:timers/promises";
import type { Redis } from "ioredis";
import { isEnd } from "../../shared/contract.ts";
import { JobClient } from "../../infra/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import type { Child } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import { quantile } from "../bench/statistics.ts";
import { groupMemory } from "./processes.ts";

export interface LoadOptions {
  /** Open at once. */
  readonly streams: number;
  readonly seconds: number;
  readonly workers: number;
  /** Of each answer. */
  readonly tokens: number;
}

/** Of times in ms. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface LoadReport extends LoadOptions {
  readonly jobs: number;
  readonly tokensPerSecond: number;
  /** From submission to the first token, waiting for a slot included. */
  readonly firstToken: Percentiles | null;
  /** From the start of its run to the first token, as the job tells. */
  readonly firstTokenOfRun: Percentiles | null;
  /** Between two tokens of a stream; those that come in one event come at once. */
  readonly gap: Percentiles | null;
  /** MiB that each part held when it held most. */
  readonly memoryMiB: Readonly<Record<string, number>>;
  /**
   * Those of workers and of the tool itself alone, before the first stream; then half of the time at most, and when there
   * were most: each submission and each reading has one for a moment.
   */
  readonly redisConnections: {
    readonly idle: number;
    readonly median: number;
    readonly max: number;
  };
  /** Streams that broke off, were refused or ended otherwise than they should. */
  readonly failures: readonly string[];
}

const SAMPLE_MS = 500;

interface Times {
  readonly firstToken: number[];
  readonly firstTokenOfRun: number[];
  readonly gap: number[];
  tokens: number;
  jobs: number;
}

export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const { streams, seconds, workers: workerCount, tokens } = options;
  const server = await startRedis({ aof: true });
  const redisUrl = server.url;
  const [edge, redis, ...workers] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    ...Array.from({ length: workerCount }, () =>
      startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
    ),
  ]);
  const { key } = await new KeyRegistry(redis).create("load");
  const api = new JobClient(edge.url, key);
  const times: Times = { firstToken: [], firstTokenOfRun: [], gap: [], tokens: 0, jobs: 0 };
  const failures: string[] = [];
  const over = AbortSignal.timeout(Math.ceil(seconds * 1000));
  const startedMs = performance.now();

  const parts: Record<string, Child> = {
    Redis: server.child,
    edge: edge.child,
    ...Object.fromEntries(workers.map(({ child }, i) => [`worker ${i + 1}`, child])),
  };
  const idle = await connections(redis);
  const held = sample(parts, redis, over);
  await Promise.all(
    Array.from({ length: streams }, async (_, stream) => {
      for (let n = 0; !over.aborted; n++) {
        await one(api, stream * 1_000_000 + n, tokens, times, over).catch((error: unknown) => {
          if (!over.aborted) failures.push(error instanceof Error ? error.message : String(error));
        });
      }
    }),
  );
  const elapsedMs = performance.now() - startedMs;
  const { memoryMiB, counts } = await held;
  redis.disconnect();
  return {
    ...options,
    jobs: times.jobs,
    tokensPerSecond: (1000 * times.tokens) / elapsedMs,
    firstToken: percentiles(times.firstToken),
    firstTokenOfRun: percentiles(times.firstTokenOfRun),
    gap: percentiles(times.gap),
    memoryMiB,
    redisConnections: { idle, median: quantile(counts, 0.5), max: quantile(counts, 1) },
    failures,
  };
}

/** One job and its stream. */
async function one(
  api: JobClient,
  seed: number,
  tokens: number,
  times: Times,
  over: AbortSignal,
): Promise<void> {
  const submittedMs = performance.now();
  const { id } = await api.submit({
    model: "atlas-qa",
    messages: [{ role: "user", content: "What is the capital of France?" }],
    max_tokens: tokens,
    seed,
    // Without an end token every answer is as long.
    logit_bias: { "0": -100 },
  });
  let lastMs: number | null = null;
  for await (const event of api.events(id, { signal: over })) {
    const nowMs = performance.now();
    if (event.type === "tokens") {
      times.tokens += event.ids.length;
      if (lastMs === null) times.firstToken.push(nowMs - submittedMs);
      else times.gap.push(nowMs - lastMs);
      lastMs = nowMs;
    }
    if (!isEnd(event)) continue;
    if (event.type !== "succeeded") throw new Error(`${id} ended as ${event.type}`);
    times.jobs++;
    const { started_at, timings } = await api.read(id);
    if (started_at !== null && timings.first_token_at !== null) {
      times.firstTokenOfRun.push(1000 * (timings.first_token_at - started_at));
    }
    return;
  }
  throw new Error(`${id}: the stream ended before the job did`);
}

/** Looks at the processes and at Redis until it is over. */
async function sample(parts: Readonly<Record<string, Child>>, redis: Redis, over: AbortSignal) {
  const memoryMiB: Record<string, number> = {};
  const counts: number[] = [];
  while (!over.aborted) {
    for (const [name, { pid }] of Object.entries(parts)) {
      const mib = groupMemory(pid ?? 0) / 2 ** 20;
      memoryMiB[name] = Math.max(memoryMiB[name] ?? 0, mib);
    }
    counts.push(await connections(redis));
    await delay(SAMPLE_MS, null, { signal: over }).catch(() => {});
  }
  return { memoryMiB, counts: counts.sort((a, b) => a - b) };
}

async function connections(redis: Redis): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))?.[1]);
}

function percentiles(values: readonly number[]): Percentiles | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((at) => quantile(sorted, at));
  return { p50: p50!, p90: p90!, p99: p99!, max: max! };
}
