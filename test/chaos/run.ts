/** A run of chaos: what each request gives undisturbed, then clients and faults together, then peace, then the questions. */
import { setTimeout as delay } from "node:timers/promises";
import { isTerminal } from "../../shared/contract.ts";
import { JobClient } from "../../infra/job-client.ts";
import { connectRedis } from "../../infra/stack/redis.ts";
import { startReceiver } from "../../infra/webhook-receiver.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import {
  judge,
  referenceOf,
  type Hook,
  type Reference,
  type Story,
  type Verdict,
} from "./check.ts";
import { ChaosClient, type Seen } from "./client.ts";
import { startCluster, type Cluster } from "./cluster.ts";
import { Dice } from "./dice.ts";
import { faults } from "./faults.ts";
import { leftovers } from "./leftovers.ts";
import { planOf, requests } from "./workload.ts";

export interface ChaosOptions {
  readonly seed: number;
  /** For which faults happen. */
  readonly seconds: number;
  /** Clients at once. */
  readonly clients: number;
  /** Different requests. */
  readonly requests: number;
  readonly say: (line: string) => void;
}

export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly jobs: Readonly<Record<string, number>>;
  readonly tokens: number;
  /** Times that a job was taken over. */
  readonly takeovers: number;
  /** Times that a client came back to a stream. */
  readonly resumes: number;
  readonly longestPauseMs: number;
  readonly webhooks: {
    readonly attempts: number;
    readonly accepted: number;
    readonly replayed: number;
  };
  readonly verdicts: readonly Verdict[];
  /** All that is wrong, a line for each. */
  readonly violations: readonly string[];
}

const WORKERS = 3;
/** After the faults everything must end within this; a busy machine needs most of it. */
const SETTLE_MS = 120_000;
/** Share of webhooks whose first attempt their receiver refuses. */
const REFUSED = 0.2;
const POLL_MS = 100;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, seconds, say } = options;
  const dice = new Dice(seed);
  const cluster = await startCluster(WORKERS);
  const redis = await connectRedis(cluster.redis.url);
  const { key, webhookSecret } = await new KeyRegistry(redis).create("chaos");
  redis.disconnect();
  const api = new JobClient(cluster.edgeUrl, key);

  const inputs = requests(dice.fork(), options.requests);
  say(`${inputs.length} requests, undisturbed`);
  const references = await Promise.all(
    inputs.map(async (input): Promise<Reference> => {
      const { id } = await api.submit(input);
      return referenceOf(await Array.fromAsync(api.events(id)));
    }),
  );

  const hooks: Hook[] = [];
  const asked: Promise<void>[] = [];
  const receiverDice = dice.fork();
  const known = new Map<string, number>();
  const receiver = await startReceiver({
    secret: webhookSecret ?? "",
    answer: (_, received) => {
      const isFirst = !known.has(received.id);
      const status = isFirst && receiverDice.chance(REFUSED) ? 500 : 204;
      known.set(received.id, status);
      asked.push(
        readState(api, received.job.id).then((stateThen) => {
          hooks.push({ ...received, stateThen, wasAccepted: status === 204 });
        }),
      );
      return status;
    },
  });

  say(`${options.clients} clients and faults for ${seconds} s, seed ${seed}`);
  const over = AbortSignal.timeout(seconds * 1000);
  const giveUp = AbortSignal.timeout(seconds * 1000 + SETTLE_MS);
  const violations: string[] = [];
  const seen: Seen[] = [];
  let abandoned = 0;
  const clientDice = dice.fork();
  const work = async (client: number, dice: Dice) => {
    for (let n = 0; !over.aborted; n++) {
      const plan = planOf(dice, inputs, receiver.url);
      const one = new ChaosClient(api, dice, `${seed}-${client}-${n}`);
      const done = await one.run(plan, giveUp);
      if (done) seen.push(done);
      else abandoned++;
    }
  };
  const startedMs = Date.now();
  const faultCounts = faults(cluster, dice.fork(), over, (name) =>
    say(`${((Date.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${name}`),
  );
  const clients = Array.from({ length: options.clients }, (_, i) =>
    work(i, clientDice.fork()).catch((error: unknown) => {
      violations.push(`a client: ${error instanceof Error ? error.message : String(error)}`);
    }),
  );
  const counts = await faultCounts;
  say("peace");
  await Promise.all(clients);

  const expected = seen.filter(({ plan }) => plan.input.webhook);
  const hasArrived = ({ id }: Seen) => hooks.some((hook) => hook.job.id === id && hook.wasAccepted);
  const arrived = () => expected.every(hasArrived);
  // The schedule's second wait is of minutes: what was refused and then lost with its worker is asked for again.
  await until(arrived, 10_000);
  const replayed = await replay(
    api,
    expected.filter((one) => !hasArrived(one)),
  );
  await until(arrived, 30_000);
  violations.push(...(await leftovers(cluster.redis.url, SETTLE_MS)));
  violations.push(...deathsIn(cluster));
  await Promise.all(asked);

  const stories = await Promise.all(
    seen.map(async (one): Promise<Story> => ({
      seen: one,
      log: await Array.fromAsync(api.events(one.id)),
      job: await api.read(one.id),
      reference: references[one.plan.request]!,
      webhooks: hooks.filter((hook) => hook.job.id === one.id),
    })),
  );
  receiver.close();
  const verdicts = judge(stories);
  for (const { promise, broken } of verdicts) {
    for (const id of broken) violations.push(`${id}: not so: ${promise}`);
  }
  const states = Map.groupBy(stories, ({ job }) => job.state);
  const attempts = stories.map(({ job }) => job.attempts);
  return {
    seed,
    seconds,
    faults: Object.fromEntries(counts),
    jobs: {
      ...Object.fromEntries(Array.from(states, ([state, { length }]) => [state, length])),
      abandoned,
    },
    tokens: stories.reduce((sum, { log }) => sum + referenceOf(log).ids.length, 0),
    takeovers: attempts.reduce((sum, count) => sum + Math.max(0, count - 1), 0),
    resumes: seen.reduce((sum, { connections }) => sum + connections - 1, 0),
    longestPauseMs: Math.max(0, ...seen.map(({ pauseMs }) => pauseMs)),
    webhooks: {
      attempts: hooks.length,
      accepted: hooks.filter((hook) => hook.wasAccepted).length,
      replayed,
    },
    verdicts,
    violations,
  };
}

/** The job's state as a customer's server would look it up on receiving a webhook. */
async function readState(api: JobClient, id: string): Promise<string | null> {
  try {
    const reply = await api.request(`/v1/jobs/${id}`, { signal: AbortSignal.timeout(2_000) });
    if (!reply.ok) return null;
    const { state } = (await reply.json()) as { state: Parameters<typeof isTerminal>[0] };
    return state;
  } catch {
    return null;
  }
}

async function replay(api: JobClient, of: readonly Seen[]): Promise<number> {
  for (const { id } of of) {
    const reply = await api.request(`/v1/webhook_deliveries?job=${id}`);
    const { data } = (await reply.json()) as { data: { id: string }[] };
    for (const delivery of data) {
      await api.request(`/v1/webhook_deliveries/${delivery.id}/replay`, { method: "POST" });
    }
  }
  return of.length;
}

function deathsIn({ edge, workers }: Cluster): string[] {
  return [edge, ...workers].flatMap(({ deaths }) => deaths);
}

async function until(isSo: () => boolean, deadlineMs: number): Promise<void> {
  for (const endMs = Date.now() + deadlineMs; !isSo() && Date.now() < endMs;) await delay(POLL_MS);
}
