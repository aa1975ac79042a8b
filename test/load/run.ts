/** One load run: keeps streams open for a time and measures them and the processes that serve them. */
import { setTimeout as delay } from "node:timers/promises";
import type { Redis } from "ioredis";
import { isEnd } from "../../shared/api/job-events.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import type { Child } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { quantile } from "../bench/statistics.ts";
import { residentBytesOfGroup } from "./processes.ts";

export interface LoadOptions {
  /** Number of streams that are open at the same time. */
  readonly streams: number;
  readonly seconds: number;
  /** Number of worker processes. */
  readonly workers: number;
  /** Length of each answer. */
  readonly tokens: number;
}

/** Percentiles of times in ms. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface LoadReport extends LoadOptions {
  /** Number of jobs that ended. */
  readonly jobs: number;
  readonly tokensPerSecond: number;
  /** From submission to the first token, including the time in the queue. */
  readonly firstToken: Percentiles | null;
  /** From the start of the attempt to the first token, by the times in the job's record. */
  readonly firstTokenOfAttempt: Percentiles | null;
  /** Between two token events of a stream; one event may have several tokens. */
  readonly gap: Percentiles | null;
  /** Maximum of each part's resident memory. */
  readonly memoryMiB: Readonly<Record<string, number>>;
  /**
   * Number of connections. `idle` is before the first stream: those of the workers and of this command. During the run
   * each submission and each read opens one for a short time.
   */
  readonly redisConnections: {
    readonly idle: number;
    readonly median: number;
    readonly max: number;
  };
  /** A line for each stream that broke off, was refused, or whose job did not succeed. */
  readonly failures: readonly string[];
}

const SAMPLE_MS = 500;

/** Measurements of all streams, times in ms. */
interface Measurements {
  readonly firstToken: number[];
  readonly firstTokenOfAttempt: number[];
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
  const times: Measurements = {
    firstToken: [],
    firstTokenOfAttempt: [],
    gap: [],
    tokens: 0,
    jobs: 0,
  };
  const failures: string[] = [];
  const end = AbortSignal.timeout(Math.ceil(seconds * 1000));
  const startMs = performance.now();

  const parts: Record<string, Child> = {
    Redis: server.child,
    edge: edge.child,
    ...Object.fromEntries(workers.map(({ child }, i) => [`worker ${i + 1}`, child])),
  };
  const idle = await countConnections(redis);
  const samples = sampleResources(parts, redis, end);
  await Promise.all(
    Array.from({ length: streams }, async (_, stream) => {
      for (let n = 0; !end.aborted; n++) {
        await streamOneJob(api, stream * 1_000_000 + n, tokens, times, end).catch(
          (error: unknown) => {
            if (!end.aborted) failures.push(error instanceof Error ? error.message : String(error));
          },
        );
      }
    }),
  );
  const elapsedMs = performance.now() - startMs;
  const { memoryMiB, counts } = await samples;
  redis.disconnect();
  return {
    ...options,
    jobs: times.jobs,
    tokensPerSecond: (1000 * times.tokens) / elapsedMs,
    firstToken: percentiles(times.firstToken),
    firstTokenOfAttempt: percentiles(times.firstTokenOfAttempt),
    gap: percentiles(times.gap),
    memoryMiB,
    redisConnections: { idle, median: quantile(counts, 0.5), max: quantile(counts, 1) },
    failures,
  };
}

/** Submits one job and reads its stream to the end. @throws Error if the job does not succeed */
async function streamOneJob(
  api: JobClient,
  seed: number,
  tokens: number,
  times: Measurements,
  end: AbortSignal,
): Promise<void> {
  const submittedMs = performance.now();
  const { id } = await api.submit({
    model: "atlas-qa",
    messages: [{ role: "user", content: "What is the capital of France?" }],
    max_tokens: tokens,
    seed,
    // The end-of-sequence token is forbidden, so that every answer has the same length.
    logit_bias: { "0": -100 },
  });
  let lastMs: number | null = null;
  for await (const event of api.events(id, { signal: end })) {
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
      times.firstTokenOfAttempt.push(1000 * (timings.first_token_at - started_at));
    }
    return;
  }
  throw new Error(`${id}: the stream ended before the job did`);
}

/** Samples memory and connections every 500 ms until the signal aborts. */
async function sampleResources(
  parts: Readonly<Record<string, Child>>,
  redis: Redis,
  end: AbortSignal,
) {
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
  return { memoryMiB, counts: counts.sort((a, b) => a - b) };
}

async function countConnections(redis: Redis): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))?.[1]);
}

function percentiles(values: readonly number[]): Percentiles | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((at) => quantile(sorted, at));
  return { p50: p50!, p90: p90!, p99: p99!, max: max! };
}
