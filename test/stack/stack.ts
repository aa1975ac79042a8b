/** Every real part, for one test file: a Redis of its own, the edge under workerd, worker processes; and their ends. */
import type { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import type { Job, JobEvent } from "../../shared/contract.ts";
import { JobClient, type JobInput } from "../../infra/job-client.ts";
import { KeyRegistry, type NewKey } from "../../shared/key-registry.ts";
import { startEdge, type Edge } from "../../infra/stack/edge.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type Worker } from "../../infra/stack/worker.ts";

/** No wait of a test may be longer; a busy machine needs most of it. */
export const DEADLINE_MS = 60_000;

/** The tests' receivers are on this machine. */
const LOCAL_WEBHOOKS = { WEBHOOK_ALLOW: "127.0.0.1" };

export interface Stack {
  readonly redis: Redis;
  readonly redisServer: RedisServer;
  readonly edge: Edge;
  readonly keys: KeyRegistry;
  /** A tenant's key, and a client that uses it. */
  readonly key: NewKey;
  readonly client: JobClient;
  startWorker(env?: Readonly<Record<string, string>>): Promise<Worker>;
}

/**
 * Starts Redis and the edge before the file's tests, and ends all after them.
 * @param worker environment of the worker that is started too, or null for none
 */
export function useStack(worker: Readonly<Record<string, string>> | null = {}): Stack {
  const workers: Worker[] = [];
  const stack = {} as { -readonly [K in keyof Stack]: Stack[K] };
  beforeAll(async () => {
    // Tests of crashes need what was written; it costs nothing that the others notice.
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
    // First, because they take their leave of Redis, which is the youngest child after a crash.
    await Promise.all(workers.map((worker) => worker.stop()));
    await stopAllChildren();
  });
  return stack;
}

/** A greedy job that goes on for 200 tokens, a second or more: the end-of-sequence token is forbidden. */
export const LONG: JobInput = {
  model: "atlas-qa",
  prompt: "the capital of france",
  temperature: 0,
  max_tokens: 200,
  logit_bias: { "0": -100 },
};

/** A greedy job of a few tokens. */
export const SHORT: JobInput = {
  model: "atlas-qa",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  temperature: 0,
  max_tokens: 8,
};

/** A job's events to the terminal one. */
export async function allEvents(client: JobClient, jobId: string, after = 0): Promise<JobEvent[]> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  return Array.fromAsync(client.events(jobId, { after, signal }));
}

/** Submits a job and waits for its end. */
export async function finished(client: JobClient, input: JobInput): Promise<Job> {
  const { id } = await client.submit(input);
  await allEvents(client, id);
  return client.read(id);
}

/** A reader that reads on while a test waits until it has seen something. */
export class Reader {
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

  async #has(what: string, isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      const more = this.#wake.promise.then(() => true);
      const goesOn = await Promise.race([more, this.ended.then(() => false)]);
      if (!goesOn && !isSo()) throw new Error(`the stream ended before ${what}`);
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

/** The numbers that n events have which are complete and in order. */
export function countingFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

export const seqOf = (events: readonly JobEvent[]) => events.map((event) => event.seq);
export const typesOf = (events: readonly JobEvent[]) => events.map((event) => event.type);
