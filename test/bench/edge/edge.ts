/**
 * `npm run bench:edge`: what the edge costs, beside Hono alone and beside Hono with a bare `queue.add`, all under workerd
 * with one real Redis, in rounds that take turns, so that what else the machine does befalls all of them alike.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Queue } from "bullmq";
import { Command } from "commander";
import { startEdge } from "../../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../../infra/stack/interrupt.ts";
import { freePort } from "../../../infra/stack/port.ts";
import { explain } from "../../../infra/stack/problem.ts";
import { Child, stopAllChildren } from "../../../infra/stack/process.ts";
import { connectRedis, ensureRedisServer, startRedis } from "../../../infra/stack/redis.ts";
import { JobStore, NEVER_RAN } from "../../../shared/job-store.ts";
import type { ModelCard } from "../../../shared/job.ts";
import { KeyRegistry } from "../../../shared/key-registry.ts";
import { MODELS_KEY } from "../../../shared/redis-keys.ts";
import { machine } from "../machine.ts";
import { figure, quantile, type Figure } from "../statistics.ts";
import { printLines, short, span } from "../table.ts";

const ROUNDS = 8;
const WARM_ROUNDS = 2;
/** Requests of a round, and how many are under way at once. */
const REQUESTS = 40;
const AT_ONCE = [1, 8];
const READY_MS = 60_000;
const TOKENS = 32;
/** Submission may cost so many times a bare `queue.add`. */
const BAR = 2;

const CARD: ModelCard = {
  id: "bench",
  description: "None: nobody runs the jobs",
  createdAtMs: 0,
  contextTokens: 2_048,
  vocabSize: 32_000,
  alphaDefault: 1,
  alphaMax: 2,
  base: "bench",
};

interface Subject {
  readonly name: string;
  /** Resolves when the reply has been read. */
  readonly run: () => Promise<unknown>;
}

interface Row {
  readonly name: string;
  readonly atOnce: number;
  readonly perSecond: Figure;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const { json } = new Command("bench:edge")
  .description("Requests a second, p50 and p99 of the edge beside bare Hono and a bare queue.add")
  .option("--json <file>", "write rows and ratios to a file")
  .parse()
  .opts<{ json?: string }>();

stopOnInterrupt();
try {
  ensureRedisServer(console.log);
  const report = await bench();
  print(report);
  if (json) {
    writeFileSync(json, JSON.stringify(report, null, 2));
    console.log(`\nwritten to ${resolve(json)}`);
  }
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}

async function bench() {
  const startedMs = performance.now();
  const { url: redisUrl } = await startRedis();
  const redis = await connectRedis(redisUrl);
  const [edge, bareUrl] = await Promise.all([startEdge({ redisUrl }), startBare(redisUrl)]);
  const { key } = await new KeyRegistry(redis).create("bench");
  await redis.hset(MODELS_KEY, CARD.id, JSON.stringify(CARD));
  const queue = new Queue("node", { connection: redis });
  const call = caller(edge.url, key);
  const job = await endedJob(call, new JobStore(redis, 3_600_000));
  const body = JSON.stringify({ model: CARD.id, prompt: "the capital of france" });
  let id = 0;
  const subjects: Subject[] = [
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
  const ratios: Record<string, Figure> = {};
  for (const atOnce of AT_ONCE) {
    const measured = await rounds(subjects, atOnce);
    rows.push(...measured.map(({ name, samples }) => rowOf(name, atOnce, samples)));
    const meansOf = (wanted: string) =>
      measured.find(({ name }) => name === wanted)!.samples.map(({ wallMs }) => wallMs);
    for (const [name, by] of [
      ["submit", "bare queue.add"],
      ["poll", "bare Hono"],
      ["stream", "bare Hono"],
    ] as const) {
      const others = meansOf(by);
      const values = meansOf(name).map((ms, i) => ms / others[i]!);
      ratios[`${name} / ${by}, ${atOnce} at once`] = figure(values)!;
    }
  }
  await queue.close();
  redis.disconnect();
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  return { machine: machine(), rows, ratios, seconds };
}

async function startBare(redisUrl: string): Promise<string> {
  const port = await freePort();
  const child = new Child({
    name: "bare worker",
    command: process.execPath,
    args: [join(import.meta.dirname, "bare-worker.ts")],
    env: { REDIS_URL: redisUrl, PORT: String(port), WRANGLER_SEND_METRICS: "false" },
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

/** A job of some tokens, to be polled and streamed. */
async function endedJob(call: Call, store: JobStore): Promise<string> {
  const body = JSON.stringify({ model: CARD.id, prompt: "the capital of france" });
  const { id } = JSON.parse(await call("/v1/jobs", { method: "POST", body })) as { id: string };
  const claim = await store.claim(id, 1);
  if (claim.status !== "claimed") throw new Error(`The job is ${claim.status}`);
  const { attempt } = claim;
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

async function rounds(subjects: readonly Subject[], atOnce: number) {
  const measured = subjects.map(({ name, run }) => ({ name, run, samples: [] as Sample[] }));
  for (let round = -WARM_ROUNDS; round < ROUNDS; round++) {
    for (const { run, samples } of measured) {
      const sample = await sampleOf(run, atOnce);
      if (round >= 0) samples.push(sample);
    }
  }
  return measured;
}

async function sampleOf(run: Subject["run"], atOnce: number): Promise<Sample> {
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
  await Promise.all(Array.from({ length: atOnce }, client));
  return { wallMs: performance.now() - startedMs, latenciesMs };
}

function rowOf(name: string, atOnce: number, samples: readonly Sample[]): Row {
  const all = samples.flatMap(({ latenciesMs }) => latenciesMs).sort((a, b) => a - b);
  return {
    name,
    atOnce,
    perSecond: figure(samples.map(({ wallMs }) => (1000 * REQUESTS) / wallMs))!,
    p50Ms: quantile(all, 0.5),
    p99Ms: quantile(all, 0.99),
  };
}

function print({ machine, rows, ratios, seconds }: Awaited<ReturnType<typeof bench>>): void {
  console.log(`\n${machine.cores} cores of ${machine.cpu}, Node ${machine.node}; ${seconds} s\n`);
  printLines([
    ["what", "at once", "requests/s", "p50 ms", "p99 ms"],
    ...rows.map(({ name, atOnce, perSecond, p50Ms, p99Ms }) => [
      name,
      String(atOnce),
      perSecond.median.toFixed(0),
      short(p50Ms),
      short(p99Ms),
    ]),
  ]);
  console.log("\ncost, as a ratio of time; median (range) of the rounds\n");
  for (const [name, ratio] of Object.entries(ratios)) {
    const verdict = ratio.median <= BAR ? "met" : "MISSED";
    const bar = name.startsWith("submit") ? `  ${verdict}: at most ${BAR}` : "";
    console.log(`  ${name.padEnd(36)}${span(ratio)}${bar}`);
  }
}
