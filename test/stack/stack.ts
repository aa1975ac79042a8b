/** The whole stack for one test file: starts its own Redis, the edge and worker processes, and stops them. */
import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import type { Job } from "../../shared/api/jobs.ts";
import type { JobEvent } from "../../shared/api/job-events.ts";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { KeyRegistry, type NewKey } from "../../shared/keys/registry.ts";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type WorkerProcess } from "../../infra/stack/worker.ts";

/** The longest wait of a test. It ends tests that hang; a machine that is ten times slower does not reach it. */
export const DEADLINE_MS = 120_000;

/** The webhook receivers of the tests listen on a loopback address. */
const LOCAL_WEBHOOKS = { WEBHOOK_ALLOW: "127.0.0.1" };

export interface Stack {
  readonly redis: Redis;
  readonly redisServer: RedisServer;
  readonly edge: EdgeProcess;
  readonly keys: KeyRegistry;
  /** A tenant's API key, and a client that uses it. */
  readonly key: NewKey;
  readonly client: JobClient;
  startWorker(env?: Readonly<Record<string, string>>): Promise<WorkerProcess>;
}

/**
 * Starts Redis, the edge and a worker before the file's tests, and stops them after the tests.
 * @param worker environment variables of the worker, or null for no worker
 */
export function useStack(worker: Readonly<Record<string, string>> | null = {}): Stack {
  const workers: WorkerProcess[] = [];
  const stack = {} as { -readonly [K in keyof Stack]: Stack[K] };
  beforeAll(async () => {
    // With an append-only file: tests of crashes need it, and it does not slow the others.
    stack.redisServer = await startRedis({ aof: true });
    const redisUrl = stack.redisServer.url;
    stack.startWorker = async (env) => {
      const worker = await startWorker({
        redisUrl,
        env: { LOG_LEVEL: "warn", ...LOCAL_WEBHOOKS, ...env },
      });
      workers.push(worker);
      return worker;
    };
    const [edge, redis] = await Promise.all([
      startEdge({ redisUrl, env: LOCAL_WEBHOOKS }),
      connectRedis(redisUrl),
      worker === null ? undefined : stack.startWorker(worker),
    ]);
    const keys = new KeyRegistry(redis);
    const key = await keys.create("test");
    Object.assign(stack, { edge, redis, keys, key, client: new JobClient(edge.url, key.key) });
  });
  afterAll(async () => {
    stack.redis?.disconnect();
    // Before the others, because a stopping worker writes to Redis, and stopAllChildren may stop Redis first.
    await Promise.all(workers.map((worker) => worker.stop()));
    await stopAllChildren();
  });
  return stack;
}

/** A greedy job of 200 tokens, which takes a second or more: the end-of-sequence token is forbidden. */
export const LONG_JOB: JobInput = {
  model: "atlas-qa",
  prompt: "the capital of france",
  temperature: 0,
  max_tokens: 200,
  logit_bias: { "0": -100 },
};

/** A greedy job of a few tokens. */
export const SHORT_JOB: JobInput = {
  model: "atlas-qa",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  temperature: 0,
  max_tokens: 8,
};

/** Reads a job's events up to the terminal one. */
export async function allEvents(client: JobClient, jobId: string, after = 0): Promise<JobEvent[]> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  return Array.fromAsync(client.events(jobId, { after, signal }));
}

/** Resolves when the edge reaches Redis again after a disturbance. Until it has connected, it answers 503 with Retry-After. */
export function edgeIsReady({ child, url }: EdgeProcess): Promise<void> {
  return child.waitForUrl(`${url}/readyz`, DEADLINE_MS);
}

/** Submits a job and waits for its end. @returns the ended job */
export async function runToEnd(client: JobClient, input: JobInput): Promise<Job> {
  const { id } = await client.submit(input);
  await allEvents(client, id);
  return client.read(id);
}

/** Reads a job's events in the background, so that a test can wait for certain events. */
export class EventReader {
  readonly events: JobEvent[] = [];
  /** Resolves with all events when the stream has ended. */
  readonly ended: Promise<JobEvent[]>;
  #wake = Promise.withResolvers<void>();

  constructor(client: JobClient, jobId: string, after = 0) {
    this.ended = this.#read(client, jobId, after);
    this.ended.catch(() => {});
  }

  hasTokens(count: number): Promise<void> {
    return this.#has(`${count} tokens`, () => tokenIds(this.events).length >= count);
  }

  hasAttempt(attempt: number): Promise<void> {
    return this.#has(`attempt ${attempt}`, () =>
      this.events.some((event) => event.type === "started" && event.attempt === attempt),
    );
  }

  async #has(condition: string, isReached: () => boolean): Promise<void> {
    while (!isReached()) {
      const more = this.#wake.promise.then(() => true);
      const hasMore = await Promise.race([more, this.ended.then(() => false)]);
      if (!hasMore && !isReached()) throw new Error(`The stream ended before ${condition}`);
    }
  }

  async #read(client: JobClient, jobId: string, after: number): Promise<JobEvent[]> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    for await (const event of client.events(jobId, { after, signal })) {
      this.events.push(event);
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    }
    return this.events;
  }
}

export function tokenIds(events: readonly JobEvent[]): number[] {
  return events.flatMap((event) => (event.type === "tokens" ? event.ids : []));
}

export function textOf(events: readonly JobEvent[]): string {
  return events.map((event) => (event.type === "tokens" ? event.text : "")).join("");
}

/** The numbers first, first + 1, ...: the sequence numbers of events that are complete and in order. */
export function countingFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

export const seqOf = (events: readonly JobEvent[]) => events.map((event) => event.seq);
export const typesOf = (events: readonly JobEvent[]) => events.map((event) => event.type);

/** Process ids of the generating processes of a worker. */
export function generatingPids({ child: { pid } }: Pick<WorkerProcess, "child">): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return children.trim().split(" ").map(Number);
}
