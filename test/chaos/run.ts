/**
 * One chaos run. It runs every request without faults to learn its output, then lets clients and faults work at the same
 * time, waits until every job has ended, and checks the guarantees.
 */
import { setTimeout as delay } from "node:timers/promises";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { connectRedis } from "../../infra/stack/redis.ts";
import { startWebhookReceiver, type WebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import {
  checkGuarantees,
  outputOf,
  type ChaosWebhook,
  type GuaranteeResult,
  type JobEvidence,
  type TokenOutput,
} from "./guarantees.ts";
import { ChaosClient, type ClientRecord } from "./client.ts";
import { startBusyProcesses, startCluster, type Cluster } from "./cluster.ts";
import { SeededRandom } from "./seeded-random.ts";
import { injectFaults } from "./faults.ts";
import { redisLeftovers } from "./redis-leftovers.ts";
import { drawPlan, drawRequests } from "./workload.ts";

export interface ChaosOptions {
  readonly seed: number;
  /** Time during which faults happen. */
  readonly seconds: number;
  /** Number of clients at the same time. */
  readonly clients: number;
  /** Number of different requests. */
  readonly requests: number;
  /** Processes that keep the processors busy while there are faults, and until all jobs have ended; by default none. */
  readonly busy?: number;
  readonly log: (line: string) => void;
}

export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  /** How often each fault happened. */
  readonly faults: Readonly<Record<string, number>>;
  /** Number of jobs by their last state, and of submissions that the client did not repeat (`abandoned`). */
  readonly jobs: Readonly<Record<string, number>>;
  readonly tokens: number;
  /** How often another worker took over a job. */
  readonly takeovers: number;
  /** How often a client resumed a stream. */
  readonly resumes: number;
  /** Longest time in which a client got no event of its job. */
  readonly longestPauseMs: number;
  readonly webhooks: {
    readonly attempts: number;
    readonly accepted: number;
    /** Deliveries that were requested again through the API. */
    readonly replayed: number;
  };
  readonly guarantees: readonly GuaranteeResult[];
  /** A line for everything that went wrong. */
  readonly violations: readonly string[];
}

const WORKERS = 3;
/** After the faults every job must end within this time; a busy machine needs most of it. */
const SETTLE_MS = 120_000;
/** Share of webhooks whose first attempt is refused by the receiver. */
const REFUSED_SHARE = 0.2;
const POLL_MS = 100;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, seconds, log } = options;
  const random = new SeededRandom(seed);
  const cluster = await startCluster(WORKERS);
  const redis = await connectRedis(cluster.redis.url);
  const { key, webhookSecret } = await new KeyRegistry(redis).create("chaos");
  redis.disconnect();
  const api = new JobClient(cluster.edgeUrl, key);

  const inputs = drawRequests(random.fork(), options.requests);
  log(`${inputs.length} requests without faults`);
  const expectedOutputs = await Promise.all(inputs.map((input) => outputOfInput(api, input)));
  const hooks = await startHookRecorder(api, webhookSecret ?? "", random.fork());

  log(`${options.clients} clients and faults for ${seconds} s, seed ${seed}`);
  const busy = startBusyProcesses(options.busy ?? 0);
  const faultsEnd = AbortSignal.timeout(seconds * 1000);
  const deadline = AbortSignal.timeout(seconds * 1000 + SETTLE_MS);
  const violations: string[] = [];
  const records: ClientRecord[] = [];
  let abandoned = 0;
  const runClient = async (client: number, random: SeededRandom) => {
    for (let n = 0; !faultsEnd.aborted; n++) {
      const plan = drawPlan(random, inputs, hooks.receiver.url);
      const record = await new ChaosClient(api, random, `${seed}-${client}-${n}`).run(
        plan,
        deadline,
      );
      if (record) records.push(record);
      else abandoned++;
    }
  };
  const startMs = Date.now();
  const clientsRandom = random.fork();
  const faultCounts = injectFaults(cluster, random.fork(), faultsEnd, (name) =>
    log(`${((Date.now() - startMs) / 1000).toFixed(1).padStart(6)} s  ${name}`),
  );
  const clients = Array.from({ length: options.clients }, (_, i) =>
    runClient(i, clientsRandom.fork()).catch((error: unknown) => {
      violations.push(`a client: ${error instanceof Error ? error.message : String(error)}`);
    }),
  );
  const faults = await faultCounts;
  log("no more faults; waiting until all jobs have ended");
  await Promise.all(clients);
  const replayed = await waitForWebhooks(api, records, hooks.webhooks);
  violations.push(...(await redisLeftovers(cluster.redis.url, SETTLE_MS)));
  violations.push(...unexpectedExitsIn(cluster));
  await hooks.close();
  await Promise.all(busy.map((process) => process.stop()));

  const jobs = await Promise.all(
    records.map(async (client): Promise<JobEvidence> => ({
      client,
      log: await Array.fromAsync(api.events(client.id)),
      job: await api.read(client.id),
      expected: expectedOutputs[client.plan.request]!,
      webhooks: hooks.webhooks.filter(({ job }) => job.id === client.id),
    })),
  );
  const guarantees = checkGuarantees(jobs);
  for (const { guarantee, broken } of guarantees) {
    for (const id of broken) violations.push(`${id}: broken guarantee: ${guarantee}`);
  }
  const byState = Map.groupBy(jobs, ({ job }) => job.state);
  return {
    seed,
    seconds,
    faults: Object.fromEntries(faults),
    jobs: {
      ...Object.fromEntries(Array.from(byState, ([state, { length }]) => [state, length])),
      abandoned,
    },
    tokens: sum(jobs.map(({ log }) => outputOf(log).ids.length)),
    takeovers: sum(jobs.map(({ job }) => Math.max(0, job.attempts - 1))),
    resumes: sum(records.map(({ connections }) => connections - 1)),
    longestPauseMs: Math.max(0, ...records.map(({ pauseMs }) => pauseMs)),
    webhooks: {
      attempts: hooks.webhooks.length,
      accepted: hooks.webhooks.filter(({ wasAccepted }) => wasAccepted).length,
      replayed,
    },
    guarantees,
    violations,
  };
}

async function outputOfInput(api: JobClient, input: JobInput): Promise<TokenOutput> {
  const { id } = await api.submit(input);
  return outputOf(await Array.fromAsync(api.events(id)));
}

interface HookRecorder {
  readonly receiver: WebhookReceiver;
  readonly webhooks: readonly ChaosWebhook[];
  /** Waits until every webhook is recorded, and ends the receiver. */
  readonly close: () => Promise<void>;
}

/** Starts a webhook receiver that refuses some first attempts and, on each webhook, reads the state of its job. */
async function startHookRecorder(
  api: JobClient,
  secret: string,
  random: SeededRandom,
): Promise<HookRecorder> {
  const webhooks: ChaosWebhook[] = [];
  const recordings: Promise<void>[] = [];
  const knownIds = new Set<string>();
  const receiver = await startWebhookReceiver({
    secret,
    answer: (_, webhook) => {
      const isRefused = !knownIds.has(webhook.id) && random.chance(REFUSED_SHARE);
      knownIds.add(webhook.id);
      recordings.push(
        readState(api, webhook.job.id).then((stateOnArrival) => {
          webhooks.push({ ...webhook, stateOnArrival, wasAccepted: !isRefused });
        }),
      );
      return isRefused ? 500 : 204;
    },
  });
  const close = async () => {
    await Promise.all(recordings);
    receiver.close();
  };
  return { receiver, webhooks, close };
}

/** The job's state, as a customer's server reads it on receiving a webhook; null if the edge does not answer. */
async function readState(api: JobClient, id: string): Promise<string | null> {
  try {
    const reply = await api.request(`/v1/jobs/${id}`, { signal: AbortSignal.timeout(2_000) });
    if (!reply.ok) return null;
    const { state } = (await reply.json()) as { state: string };
    return state;
  } catch {
    return null;
  }
}

/**
 * Waits for the webhooks of all jobs that have one. A delivery that was refused and then lost with its worker would only
 * be tried again after minutes, so what is missing after 10 s is replayed through the API.
 * @returns the number of replayed jobs
 */
async function waitForWebhooks(
  api: JobClient,
  records: readonly ClientRecord[],
  webhooks: readonly ChaosWebhook[],
): Promise<number> {
  const missing = () =>
    records.filter(
      ({ id, plan }) =>
        plan.input.webhook &&
        !webhooks.some(({ job, wasAccepted }) => job.id === id && wasAccepted),
    );
  const haveArrived = () => missing().length === 0;
  await waitUntil(haveArrived, 10_000);
  const replayed = missing();
  for (const { id } of replayed) {
    const reply = await api.request(`/v1/webhook_deliveries?job=${id}`);
    const { data } = (await reply.json()) as { data: { id: string }[] };
    for (const delivery of data) {
      await api.request(`/v1/webhook_deliveries/${delivery.id}/replay`, { method: "POST" });
    }
  }
  await waitUntil(haveArrived, 30_000);
  return replayed.length;
}

function unexpectedExitsIn({ edge, workers }: Cluster): string[] {
  return [edge, ...workers].flatMap(({ unexpectedExits, hangs }) => [
    ...unexpectedExits,
    ...hangs.map((line) => `a watchdog has logged: ${line}`),
  ]);
}

/** Resolves when the condition holds or the time is up. */
async function waitUntil(condition: () => boolean, deadlineMs: number): Promise<void> {
  for (const endMs = Date.now() + deadlineMs; !condition() && Date.now() < endMs;) {
    await delay(POLL_MS);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
