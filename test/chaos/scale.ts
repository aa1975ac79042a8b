/**
 * `npm run scale`: a controller as KEDA's scales real workers from zero and back, while clients stream and workers are killed. It reads the
 * control role's metrics, as Prometheus would. The exit code is 1 if a token was lost or repeated, a job waited longer than the objective,
 * fewer workers were killed than asked for, or the workers did not return to zero.
 */
import { writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { ChaosClient } from "./client.ts";
import { outputOf, type TokenOutput } from "./guarantees.ts";
import { Scaler } from "./scaler.ts";
import { SeededRandom } from "./seeded-random.ts";
import { drawRequests } from "./workload.ts";

const LOCK_MS = "2000";
/** For a job to start after its submission, with a worker that must be started and others that are killed. */
const WAIT_OBJECTIVE_SECONDS = 60;
const SETTLE_MS = 240_000;

const options = new Command("npm run scale --")
  .description("scale workers from zero and back as KEDA does, under load and faults")
  .option("--clients <number>", "clients at the same time", Number, 16)
  .option("--jobs <number>", "jobs of each client", Number, 3)
  .option("--kills <number>", "workers that are killed meanwhile", Number, 3)
  .option("--max <number>", "workers at most", Number, 3)
  .option("--seed <number>", "seed of all random choices", Number, Date.now() % 1_000_000)
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{
    clients: number;
    jobs: number;
    kills: number;
    max: number;
    seed: number;
    json?: string;
  }>();

stopOnInterrupt();
try {
  const report = await run();
  console.log(report);
  if (options.json) writeFileSync(options.json, JSON.stringify(report, null, 2));
  process.exitCode = report.violations.length === 0 ? 0 : 1;
} catch (error) {
  console.error(`seed ${options.seed}: ${errorText(error)}`);
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();

async function run() {
  const random = new SeededRandom(options.seed);
  const redis = await startRedis({ aof: true });
  const env = { LOG_LEVEL: "warn", LOCK_MS, ATTEMPTS_MAX: "100" };
  const startGenerating = () =>
    startWorker({
      redisUrl: redis.url,
      env: { ...env, ROLES: "generate", SLOTS: "4", DRAIN_SECONDS: "5" },
    });
  const [edge, control, first] = await Promise.all([
    startEdge({ redisUrl: redis.url, env: { STREAM_HEARTBEAT_SECONDS: "1" } }),
    startWorker({ redisUrl: redis.url, env: { ...env, ROLES: "deliver,batch,sweep" } }),
    // It makes the models known.
    startGenerating(),
  ]);
  const connection = await connectRedis(redis.url);
  const { key } = await new KeyRegistry(connection).create("scale");
  connection.disconnect();
  const api = new JobClient(edge.url, key);
  const inputs = drawRequests(random.fork(), 12);
  const expected = await Promise.all(inputs.map((input) => outputWithoutFaults(api, input)));
  await first.stop();

  const scaler = new Scaler({
    metricsUrl: `${control.healthUrl}/metrics`,
    start: startGenerating,
    max: options.max,
    jobsPerReplica: 3,
    ageSeconds: 2,
    cooldownMs: 5_000,
    log: (line) => console.error(line),
  });
  const deadline = AbortSignal.timeout(SETTLE_MS);
  const violations: string[] = [];
  const kills = killWorkers(scaler, random.fork(), deadline);
  const waits = await Promise.all(
    Array.from({ length: options.clients }, (_, client) =>
      runClient(api, random.fork(), { client, inputs, expected, violations }, deadline),
    ),
  );
  const killed = await kills;
  if (killed < options.kills) {
    violations.push(
      `${killed} of ${options.kills} kills: the jobs ended too early, use more --jobs`,
    );
  }
  while (scaler.left > 0 && !deadline.aborted) await delay(200);
  if (scaler.left > 0) violations.push(`${scaler.left} workers are left`);
  await scaler.stop();
  const longestWait = Math.max(...waits.flat());
  if (longestWait > WAIT_OBJECTIVE_SECONDS) {
    violations.push(`a job waited ${longestWait.toFixed(1)} s for its start`);
  }
  return {
    seed: options.seed,
    jobs: waits.flat().length,
    workersAtMost: scaler.most,
    starts: scaler.starts,
    killed,
    longestWaitSeconds: Number(longestWait.toFixed(1)),
    workersAtEnd: scaler.left,
    violations,
  };
}

interface Client {
  readonly client: number;
  readonly inputs: readonly JobInput[];
  readonly expected: readonly TokenOutput[];
  readonly violations: string[];
}

/** @returns the seconds that each of its jobs waited for its start */
async function runClient(
  api: JobClient,
  random: SeededRandom,
  { client, inputs, expected, violations }: Client,
  deadline: AbortSignal,
): Promise<number[]> {
  const waits: number[] = [];
  for (let n = 0; n < options.jobs; n++) {
    const request = random.integer(0, inputs.length - 1);
    const input = inputs[request]!;
    const chaosClient = new ChaosClient(api, random.fork(), `${options.seed}-${client}-${n}`);
    const plan = { request, input, cancelAfter: null, retriesSubmission: true };
    const record = await chaosClient.run(plan, deadline);
    if (record === null) continue;
    const { ids } = outputOf(record.events);
    const job = await api.read(record.id);
    waits.push((job.started_at ?? Infinity) - job.created_at);
    const isSame = JSON.stringify(ids) === JSON.stringify(expected[request]!.ids);
    const isInOrder = record.events.every(({ seq }, i) => seq === i + 1);
    if (job.state !== "succeeded") violations.push(`${record.id}: ${job.state}`);
    else if (!isSame || !isInOrder) violations.push(`${record.id}: tokens were lost or repeated`);
  }
  return waits;
}

/** Kills workers while clients run. @returns how many */
async function killWorkers(scaler: Scaler, random: SeededRandom, deadline: AbortSignal) {
  let killed = 0;
  while (killed < options.kills && !deadline.aborted) {
    await delay(random.integer(2_000, 5_000));
    if (scaler.killOne(random)) killed++;
    else if (scaler.most > 0 && scaler.count === 0) break;
  }
  return killed;
}

async function outputWithoutFaults(api: JobClient, input: JobInput): Promise<TokenOutput> {
  const { id } = await api.submit(input);
  return outputOf(await Array.fromAsync(api.events(id)));
}
