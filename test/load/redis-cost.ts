/**
 * `npm run load:redis`: the processor time that each operation of a job costs Redis, with the real stores and scripts, and so what one
 * Redis server carries: it runs commands on one core. Processor time holds also on a busy machine.
 */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import type { Redis } from "ioredis";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, REDIS_COMMAND, startRedis } from "../../infra/stack/redis.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { fenceOf } from "../../shared/jobs/fence.ts";
import { JobLeases, type ClaimedJob } from "../../shared/jobs/leases.ts";
import { JobStore, NEVER_RAN } from "../../shared/jobs/store.ts";
import { eventChannel } from "../../shared/redis/keys.ts";
import { describeMachine } from "../bench/machine.ts";
import { printLines } from "../bench/table.ts";
import { newJob } from "../support/generation.ts";

/** Commands that wait for their reply at the same time. */
const AT_ONCE = 64;
const TENANTS = 20;
const TOKENS = 20;
const LEASE_MS = 600_000;
const LANE = ["atlas-qa", "weights"] as const;
/** A worker of a large GPU, and the default. */
const SLOTS = [256, 8] as const;
/** The default of LOCK_MS; a worker renews three times in it. */
const RENEWAL_SECONDS = 2;

interface Cost {
  readonly operation: string;
  readonly count: number;
  /** Microseconds of Redis' processor time for each. */
  readonly microseconds: number;
}

interface Capacity {
  /** Tokens of each job. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly jobsPerSecond: number;
  /** Streams that generate at the same time, at 20 tokens per second each. */
  readonly streams: number;
}

const options = new Command("npm run load:redis --")
  .description("measure the processor time that each operation of a job costs Redis")
  .option("--jobs <number>", "number of jobs", Number, 2_000)
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ jobs: number; json?: string }>();

stopOnInterrupt();
try {
  const server = await startRedis({ aof: true });
  const redis = await connectRedis(server.url);
  const costs = await measure(server.url, redis, options.jobs);
  const capacity = [20, 200, 1_000].map((tokens) => capacityOf(costs, tokens));
  print(costs, capacity);
  if (options.json) {
    const report = { machine: describeMachine(), server: REDIS_COMMAND, costs, capacity };
    writeFileSync(options.json, JSON.stringify(report, null, 2));
  }
  redis.disconnect();
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();

async function measure(url: string, redis: Redis, jobCount: number): Promise<Cost[]> {
  const store = new JobStore(redis, 3_600_000);
  const leases = new JobLeases(redis);
  const costs: Cost[] = [];
  const cost = async (operation: string, count: number, run: (n: number) => Promise<unknown>) => {
    const before = await processorMicroseconds(redis);
    await inParallel(count, run);
    const after = await processorMicroseconds(redis);
    costs.push({ operation, count, microseconds: (after - before) / count });
  };

  await cost("ping", 10_000, () => redis.ping());
  await cost("submit", jobCount, (n) =>
    store.submit(newJob({ tenant: `tenant-${n % TENANTS}`, deadlineInMs: LEASE_MS })),
  );
  const claims: ClaimedJob[] = [];
  await cost("take", jobCount, async () => {
    const order = { lanes: [LANE], takesJobs: true, leaseMs: LEASE_MS, attemptsMax: 5 };
    const { job } = await leases.take(order);
    if (job?.status !== "claimed") throw new Error("no job was taken");
    claims.push(job);
  });
  const records = claims.map(({ record }) => record);
  await cost("prefill", jobCount, (n) => {
    const { id } = records[n]!;
    return store.recordPrefill(id, fenceOf(records[n]!), 10);
  });
  let logged = 0;
  const append = (n: number) => {
    const record = records[n % jobCount]!;
    const tokens = { ids: [n], text: " token" };
    return store.appendTokens(
      record.id,
      fenceOf(record),
      logged + Math.floor(n / jobCount),
      tokens,
    );
  };
  await cost("first token", jobCount, append);
  logged++;
  await cost("token event without reader", TOKENS * jobCount, append);
  logged += TOKENS;
  const edge = await connectRedis(url);
  await cost("stream: subscribe", jobCount, (n) => edge.subscribe(eventChannel(records[n]!.id)));
  await cost("stream: read the log", jobCount, (n) => store.entries(records[n]!.id, 0, 100));
  await cost("token event with a reader", TOKENS * jobCount, append);
  for (const slots of SLOTS) {
    const workers = Math.floor(jobCount / slots);
    await cost(`renewal of a lease, ${slots} slots`, workers * slots, async (n) => {
      if (n % slots === 0) await leases.renew(records.slice(n, n + slots), LEASE_MS);
    });
  }
  await cost("finish", jobCount, (n) => {
    const record = records[n]!;
    return store.finish(record.id, fenceOf(record), "succeeded", "", {
      ...NEVER_RAN,
      finish_reason: "stop",
    });
  });
  await cost("stream: unsubscribe", jobCount, (n) =>
    edge.unsubscribe(eventChannel(records[n]!.id)),
  );
  await cost("read a job", jobCount, (n) => store.record(records[n]!.id));
  edge.disconnect();
  return costs;
}

async function inParallel(count: number, run: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

/** Processor time of Redis' main thread so far. */
async function processorMicroseconds(redis: Redis): Promise<number> {
  const info = await redis.info("cpu");
  const seconds = ["user", "sys"].map((kind) =>
    Number(new RegExp(`used_cpu_${kind}_main_thread:([\\d.]+)`).exec(info)?.[1]),
  );
  return 1e6 * (seconds[0]! + seconds[1]!);
}

/** The load that one core carries if each job has a stream, 8 slots are a worker, and a token takes 50 ms. */
function capacityOf(costs: readonly Cost[], tokens: number): Capacity {
  const of = (name: string) => costs.find(({ operation }) => operation === name)!.microseconds;
  const once = ["submit", "take", "prefill", "first token", "stream: subscribe"]
    .concat(["stream: read the log", "finish", "stream: unsubscribe"])
    .reduce((sum, name) => sum + of(name), 0);
  const token = of("token event with a reader");
  const seconds = tokens / 20;
  const renewals = (seconds / RENEWAL_SECONDS) * of("renewal of a lease, 8 slots");
  const job = once + (tokens - 1) * token + renewals;
  const jobsPerSecond = 1e6 / job;
  return {
    tokens,
    jobsPerSecond,
    tokensPerSecond: jobsPerSecond * tokens,
    streams: jobsPerSecond * seconds,
  };
}

function print(costs: readonly Cost[], capacity: readonly Capacity[]): void {
  printLines([
    ["operation", "times", "microseconds"],
    ...costs.map(({ operation, count, microseconds }) => [
      operation,
      String(count),
      microseconds.toFixed(1),
    ]),
  ]);
  console.log("\none core of Redis, if each job has a stream");
  printLines([
    ["tokens of a job", "jobs/s", "tokens/s", "streams of 20 tokens/s"],
    ...capacity.map(({ tokens, jobsPerSecond, tokensPerSecond, streams }) =>
      [tokens, jobsPerSecond, tokensPerSecond, streams].map((value) => value.toFixed(0)),
    ),
  ]);
}
