/** One load run: keeps streams open for a time and measures them and the processes that serve them. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { isLastType } from "../../shared/jobs/log-entry.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { quantile } from "../bench/statistics.ts";
import { readEventStream } from "./event-stream.ts";
import { processorMs, sampleResources, type ConnectionCounts, type Parts } from "./resources.ts";

export interface LoadOptions {
  /** Number of streams that are open at the same time. */
  readonly streams: number;
  readonly seconds: number;
  /** Number of worker processes. */
  readonly workers: number;
  /** Number of Redis servers among which the streams are divided. */
  readonly shards: number;
  /** Length of each answer. */
  readonly tokens: number;
  /** Milliseconds between the tokens of a stream whose models cost nothing; null for the demo models. */
  readonly freeTokenMs: number | null;
}

/** Percentiles of times in ms. */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export interface LoadReport extends LoadOptions {
  /** Number of jobs that ended. As all figures below, counted after all streams were open. */
  readonly jobs: number;
  readonly tokensPerSecond: number;
  /** Events with tokens that arrived. */
  readonly eventsPerSecond: number;
  /** From submission to the first token, including the time in the queue. */
  readonly firstToken: Percentiles | null;
  /** From the start of the attempt to the first token, by the times in the job's record. */
  readonly firstTokenOfAttempt: Percentiles | null;
  /** Between two token events of a stream; one event may have several tokens. */
  readonly gap: Percentiles | null;
  /** From the engine to the client, of models that cost nothing. */
  readonly delay: Percentiles | null;
  /** Maximum of each part's resident memory. */
  readonly memoryMiB: Readonly<Record<string, number>>;
  /** Processor time of each part, as a share of one core. */
  readonly cores: Readonly<Record<string, number>>;
  readonly redisConnections: ConnectionCounts;
  /** A line for each stream that broke off, was refused, or whose job did not succeed. */
  readonly failures: readonly string[];
}

const FREE_DECODER = pathToFileURL(join(import.meta.dirname, "free-decoder/preload.ts")).href;
const SLOTS_MAX = 1_024;
/** Streams that are opened at the same time at the start. */
const OPENED_AT_ONCE = 100;

/** Measurements of all streams, times in ms. */
class Measurements {
  readonly firstToken: number[] = [];
  readonly firstTokenOfAttempt: number[] = [];
  readonly gap: number[] = [];
  readonly delay: number[] = [];
  tokens = 0;
  events = 0;
  jobs = 0;
}

export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const { streams, seconds, workers: workerCount, shards, freeTokenMs } = options;
  const servers = await Promise.all(
    Array.from({ length: shards }, () => startRedis({ aof: true })),
  );
  const redisUrl = servers.map(({ url }) => url).join(" ");
  const [edge, redis, ...workers] = await Promise.all([
    startEdge({ redisUrl }),
    Promise.all(servers.map(({ url }) => connectRedis(url))),
    ...Array.from({ length: workerCount }, () =>
      startWorker({ redisUrl, env: { LOG_LEVEL: "warn", ...workerEnv(options) } }),
    ),
  ]);
  const keys = await Promise.all(
    redis.map(async (each, shard) => (await new KeyRegistry(each, shard).create("load")).key),
  );
  const parts: Parts = {
    ...Object.fromEntries(
      servers.map(({ child }, i) => [shards === 1 ? "Redis" : `Redis ${i + 1}`, child]),
    ),
    edge: edge.child,
    ...Object.fromEntries(workers.map(({ child }, i) => [`worker ${i + 1}`, child])),
  };
  const end = new AbortController();
  const samples = sampleResources(parts, redis, end.signal);
  const failures: string[] = [];
  let measured = new Measurements();
  const deps = keys.map((key) => {
    return { api: new JobClient(edge.url, key), url: edge.url, key, end: end.signal };
  });
  const isFree = freeTokenMs !== null;
  const runStream = async (stream: number, onOpen: () => void) => {
    for (let n = 0; !end.signal.aborted; n++) {
      const input = jobInput(options, stream * 1_000_000 + n);
      const read = streamOneJob(deps[stream % shards]!, input, {
        isFree,
        onOpen,
        measured: () => measured,
      });
      await read.catch((error: unknown) => {
        if (!end.signal.aborted)
          failures.push(error instanceof Error ? error.message : String(error));
      });
      onOpen();
    }
  };
  const running: Promise<void>[] = [];
  const openOneByOne = async (_: unknown, lane: number) => {
    for (let stream = lane; stream < streams; stream += OPENED_AT_ONCE) {
      const { promise, resolve } = Promise.withResolvers<void>();
      running.push(runStream(stream, resolve));
      await promise;
    }
  };
  await Promise.all(Array.from({ length: OPENED_AT_ONCE }, openOneByOne));
  measured = new Measurements();
  const startMs = performance.now();
  const before = processorMs(parts);
  await delay(seconds * 1000);
  const after = processorMs(parts);
  const elapsedMs = performance.now() - startMs;
  const results = measured;
  end.abort();
  await Promise.all(running);
  const { memoryMiB, redisConnections } = await samples;
  for (const each of redis) each.disconnect();
  return {
    ...options,
    jobs: results.jobs,
    tokensPerSecond: (1000 * results.tokens) / elapsedMs,
    eventsPerSecond: (1000 * results.events) / elapsedMs,
    firstToken: percentiles(results.firstToken),
    firstTokenOfAttempt: percentiles(results.firstTokenOfAttempt),
    gap: percentiles(results.gap),
    delay: percentiles(results.delay),
    memoryMiB,
    cores: Object.fromEntries(
      Object.entries(after).map(([name, ms]) => [name, (ms - before[name]!) / elapsedMs]),
    ),
    redisConnections,
    failures,
  };
}

function workerEnv({ streams, workers, freeTokenMs }: LoadOptions): Record<string, string> {
  if (freeTokenMs === null) return {};
  return {
    NODE_OPTIONS: `--import=${FREE_DECODER}`,
    FREE_TOKEN_MS: String(freeTokenMs),
    SLOTS: String(Math.min(SLOTS_MAX, Math.ceil(streams / workers))),
  };
}

function jobInput({ tokens, freeTokenMs }: LoadOptions, seed: number): JobInput {
  return {
    model: freeTokenMs === null ? "atlas-qa" : "free",
    messages: [{ role: "user", content: "What is the capital of France?" }],
    max_tokens: tokens,
    seed,
    // The end-of-sequence token is forbidden, so that every answer has the same length.
    ...(freeTokenMs === null && { logit_bias: { "0": -100 } }),
  };
}

interface StreamDeps {
  readonly api: JobClient;
  readonly url: string;
  readonly key: string;
  readonly end: AbortSignal;
}

interface StreamOptions {
  readonly isFree: boolean;
  /** Called with the first event. */
  readonly onOpen: () => void;
  /** Where the measurements of this moment belong. */
  readonly measured: () => Measurements;
}

/** Submits one job and reads its stream to the end. @throws Error if the job does not succeed */
async function streamOneJob(
  { api, url, key, end }: StreamDeps,
  input: JobInput,
  { isFree, onOpen, measured }: StreamOptions,
): Promise<void> {
  const submittedMs = performance.now();
  const { id } = await api.submit(input);
  let lastMs: number | null = null;
  let lastType = "";
  const headers = { authorization: `Bearer ${key}` };
  await readEventStream({ url: `${url}/v1/jobs/${id}/events`, headers, signal: end }, onEvent);
  function onEvent({ type, data }: { type: string; data: string }): void {
    onOpen();
    lastType = type;
    if (type !== "tokens") return;
    const nowMs = performance.now();
    const times = measured();
    const { ids, text } = JSON.parse(data) as { ids: number[]; text: string };
    times.tokens += ids.length;
    times.events++;
    if (isFree) times.delay.push(Date.now() - parseInt(text, 10));
    if (lastMs === null) times.firstToken.push(nowMs - submittedMs);
    else times.gap.push(nowMs - lastMs);
    lastMs = nowMs;
  }
  if (!isLastType(lastType)) throw new Error(`${id}: the stream ended before the job did`);
  if (lastType !== "succeeded") throw new Error(`${id} ended as ${lastType}`);
  measured().jobs++;
  const { started_at, timings } = await api.read(id);
  if (started_at !== null && timings.first_token_at !== null) {
    measured().firstTokenOfAttempt.push(1000 * (timings.first_token_at - started_at));
  }
}

function percentiles(values: readonly number[]): Percentiles | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((at) => quantile(sorted, at));
  return { p50: p50!, p90: p90!, p99: p99!, max: max! };
}
