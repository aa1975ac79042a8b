/**
 * `npm run bench:edge`: cost of the self-hosted edge beside Hono alone and beside Hono with a bare `queue.add`, all on Node with
 * one real Redis. Operations are measured in rounds, in turn, so that other load of the machine affects all of them alike.
 */
import { join } from "node:path";
import { Queue } from "bullmq";
import { Command } from "commander";
import type { Redis } from "ioredis";
import { startEdge } from "../../../infra/stack/edge.ts";
import { freePort } from "../../../infra/stack/port.ts";
import { Child } from "../../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../../infra/stack/redis.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import type { ModelCard } from "../../../shared/workers/model-card.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { describeMachine } from "../machine.ts";
import { runBench } from "../run-bench.ts";
import { DEEP_JOBS, DEEP_TENANTS, measureDeepQueue } from "./deep-queue.ts";
import { summarize, quantile, type Summary } from "../statistics.ts";
import { printLines, formatNumber, formatRange } from "../table.ts";
import { claimJob } from "../../support/claim.ts";

const ROUNDS = 8;
/** Rounds before the measurement. */
const WARM_UP_ROUNDS = 2;
/** Requests of an operation in a round, and how many of them at the same time. */
const REQUESTS = 40;
const CONCURRENCIES = [1, 8];
const READY_MS = 60_000;
const TOKENS = 32;
/** Target: a submission takes at most this many times the time of a bare `queue.add`. */
const SUBMIT_RATIO_MAX = 2;
/** Target: with many jobs waiting a request costs Redis at most this many times what it costs with none. */
const DEEP_RATIO_MAX = 2;

const CARD: ModelCard = {
  id: "bench",
  description: "No model: the jobs do not run",
  createdAtMs: 0,
  contextTokens: 2_048,
  vocabSize: 32_000,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "bench",
  fingerprint: "bench",
  reproducible: true,
};

interface Operation {
  readonly name: string;
  /** Resolves after the whole reply was read. */
  readonly run: () => Promise<unknown>;
}

interface Row {
  readonly name: string;
  readonly concurrency: number;
  readonly perSecond: Summary;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const { json } = new Command("npm run bench:edge --")
  .description(
    "measure requests per second and latency of the edge beside bare Hono and a bare queue.add",
  )
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ json?: string }>();

await runBench(bench, print, json);

async function bench() {
  const startedMs = performance.now();
  const { url: redisUrl } = await startRedis();
  const redis = await connectRedis(redisUrl);
  const [edge, bareUrl] = await Promise.all([startEdge({ redisUrl }), startBare(redisUrl)]);
  const { key } = await new KeyRegistry(redis).create("bench");
  await redis.hset(MODELS_KEY, CARD.id, JSON.stringify(CARD));
  const queue = new Queue("node", { connection: redis });
  const call = caller(edge.url, key);
  const job = await endedJob(call, redis);
  const body = JSON.stringify({ model: CARD.id, prompt: "the capital of france" });
  let id = 0;
  const operations: Operation[] = [
    { name: "bare Hono", run: () => read(`${bareUrl}/hono`) },
    {
      name: "bare queue.add",
      run: () =>
        read(`${bareUrl}/add`, { method: "POST", body: JSON.stringify({ id: String(id++) }) }),
    },
    { name: "queue.add in Node", run: () => queue.add("generate", { id: String(id++) }) },
    { name: "submit", run: () => call("/v1/jobs", { method: "POST", body }) },
    { name: "poll", run: () => call(`/v1/jobs/${job}`) },
    { name: "stream", run: () => call(`/v1/jobs/${job}/events`) },
  ];
  const rows: Row[] = [];
  const ratios: Record<string, Summary> = {};
  for (const concurrency of CONCURRENCIES) {
    const measured = await runRounds(operations, concurrency);
    rows.push(...measured.map(({ name, samples }) => resultRow(name, concurrency, samples)));
    const wallTimes = (wanted: string) =>
      measured.find(({ name }) => name === wanted)!.samples.map(({ wallMs }) => wallMs);
    for (const [name, reference] of [
      ["submit", "bare queue.add"],
      ["poll", "bare Hono"],
      ["stream", "bare Hono"],
    ] as const) {
      const references = wallTimes(reference);
      const values = wallTimes(name).map((ms, i) => ms / references[i]!);
      ratios[`${name} / ${reference}, concurrency ${concurrency}`] = summarize(values)!;
    }
  }
  await queue.close();
  redis.disconnect();
  const deepQueue = await measureDeepQueue();
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  return { machine: describeMachine(), rows, ratios, deepQueue, seconds };
}

async function startBare(redisUrl: string): Promise<string> {
  const port = await freePort();
  const child = new Child({
    name: "bare",
    command: process.execPath,
    args: [join(import.meta.dirname, "bare.ts")],
    env: { REDIS_URL: redisUrl, PORT: String(port) },
  });
  const url = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${url}/hono`, READY_MS);
  return url;
}

type Call = (path: string, init?: RequestInit) => Promise<string>;

function caller(url: string, key: string): Call {
  return (path, init) => read(url + path, { ...init, headers: { authorization: `Bearer ${key}` } });
}

async function read(url: string, init?: RequestInit): Promise<string> {
  const reply = await fetch(url, init);
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${url} replied ${reply.status}: ${text}`);
  return text;
}

/** Id of an ended job with tokens, to be polled and streamed. */
async function endedJob(call: Call, redis: Redis): Promise<string> {
  const store = new JobStore(redis, 3_600_000);
  const body = JSON.stringify({ model: CARD.id, prompt: "the capital of france" });
  const { id } = JSON.parse(await call("/v1/jobs", { method: "POST", body })) as { id: string };
  const { attempt } = await claimJob(redis, id);
  for (let at = 0; at < TOKENS; at++) {
    await store.appendTokens(id, attempt, at, { ids: [at], text: " word" });
  }
  await store.finish(id, attempt, "succeeded", " word".repeat(TOKENS), NEVER_RAN);
  return id;
}

interface Sample {
  readonly wallMs: number;
  readonly latenciesMs: readonly number[];
}

async function runRounds(operations: readonly Operation[], concurrency: number) {
  const measured = operations.map(({ name, run }) => ({ name, run, samples: [] as Sample[] }));
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const { run, samples } of measured) {
      const sample = await measureOperation(run, concurrency);
      if (round >= 0) samples.push(sample);
    }
  }
  return measured;
}

async function measureOperation(run: Operation["run"], concurrency: number): Promise<Sample> {
  const latenciesMs: number[] = [];
  let left = REQUESTS;
  const client = async () => {
    while (left-- > 0) {
      const startedMs = performance.now();
      await run();
      latenciesMs.push(performance.now() - startedMs);
    }
  };
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: concurrency }, client));
  return { wallMs: performance.now() - startedMs, latenciesMs };
}

function resultRow(name: string, concurrency: number, samples: readonly Sample[]): Row {
  const all = samples.flatMap(({ latenciesMs }) => latenciesMs).sort((a, b) => a - b);
  return {
    name,
    concurrency,
    perSecond: summarize(samples.map(({ wallMs }) => (1000 * REQUESTS) / wallMs))!,
    p50Ms: quantile(all, 0.5),
    p99Ms: quantile(all, 0.99),
  };
}

function print({
  machine,
  rows,
  ratios,
  deepQueue,
  seconds,
}: Awaited<ReturnType<typeof bench>>): void {
  console.log(`\n${machine.cores} cores of ${machine.cpu}, Node ${machine.node}; ${seconds} s\n`);
  printLines([
    ["operation", "concurrency", "requests/s", "p50 ms", "p99 ms"],
    ...rows.map(({ name, concurrency, perSecond, p50Ms, p99Ms }) => [
      name,
      String(concurrency),
      perSecond.median.toFixed(0),
      formatNumber(p50Ms),
      formatNumber(p99Ms),
    ]),
  ]);
  console.log("\nratios of time, median (smallest - largest) of the rounds\n");
  for (const [name, ratio] of Object.entries(ratios)) {
    const verdict = ratio.median <= SUBMIT_RATIO_MAX ? "met" : "MISSED";
    const target = name.startsWith("submit")
      ? `  target ${verdict}: at most ${SUBMIT_RATIO_MAX}`
      : "";
    console.log(`  ${name.padEnd(40)}${formatRange(ratio)}${target}`);
  }
  console.log(
    `\nRedis, median microseconds: empty queue, ${DEEP_JOBS} jobs of ${DEEP_TENANTS} tenants waiting\n`,
  );
  printLines([
    ["request", "empty", "deep", `target: at most ${DEEP_RATIO_MAX} times`],
    ...deepQueue.map(({ name, emptyUs, deepUs }) => [
      name,
      emptyUs.toFixed(0),
      deepUs.toFixed(0),
      `${(deepUs / emptyUs).toFixed(2)} ${deepUs <= DEEP_RATIO_MAX * emptyUs ? "met" : "MISSED"}`,
    ]),
  ]);
}
