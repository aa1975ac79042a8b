/** A worker's connection to one shard (shared/redis/shards.ts), and what its parts need of it. */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { JobRecord } from "../shared/jobs/record.ts";
import { JobStore } from "../shared/jobs/store.ts";
import { jobSources, readJob } from "../shared/protocols/job-reply.ts";
import { DELIVERY_QUEUE } from "../shared/redis/keys.ts";
import { checkServer } from "../shared/redis/server-check.ts";
import { checkShard } from "../shared/redis/shards.ts";
import { commandsOf, tagOf } from "../shared/redis/tags.ts";
import { shardUrls } from "../shared/redis/url.ts";
import { WebhookPublisher } from "../shared/webhooks/publisher.ts";
import type { WorkerEnv } from "./env.ts";
import type { PartDeps } from "./part.ts";
import { startClock, type WatchedClock } from "./redis/clock.ts";
import { connectRedis, isAnswering, whenReady } from "./redis/connection.ts";
import type { Metrics } from "./telemetry/metrics.ts";

export class WorkerShard {
  readonly number: number;
  /** Resolves if the first connection fails or breaks, or if the shard is new and waits for one of which that is true. */
  readonly away: Promise<void>;
  readonly #all: readonly WorkerShard[];
  readonly #url: string;
  readonly #env: WorkerEnv;
  readonly #log: Logger;
  readonly #redis: Redis;
  readonly #setAway: () => void;
  #clock: WatchedClock | null = null;
  #refusal: string | null = null;
  /** Why it is not open yet although it answers. */
  #waiting: string | null = null;

  /** Begins to connect to all shards. */
  static connectAll(env: WorkerEnv, log: Logger): WorkerShard[] {
    const all: WorkerShard[] = [];
    for (const url of shardUrls(env.REDIS_URL)) all.push(new WorkerShard(env, url, all, log));
    return all;
  }

  /** @param all the shards, of which this one becomes the next */
  private constructor(env: WorkerEnv, url: string, all: readonly WorkerShard[], log: Logger) {
    this.number = all.length;
    this.#all = all;
    this.#url = url;
    this.#env = env;
    this.#log = shardUrls(env.REDIS_URL).length === 1 ? log : log.child({ shard: this.number });
    this.#redis = connectRedis(url, this.#log, env);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.away = promise;
    this.#setAway = resolve;
    this.#redis.once("close", resolve);
  }

  /** Why no work is taken from it, in a sentence; null if it is. */
  get problem(): string | null {
    const answering = isAnswering(this.#redis) ? this.#clock?.problem : "Redis does not answer";
    const problem = this.#refusal ?? answering ?? this.#waiting;
    if (!problem) return null;
    return this.#all.length === 1 ? problem : `Shard ${this.number}: ${problem}`;
  }

  /** Waits for Redis, checks it, and sets the clock by it. @throws Error if the server cannot hold the data */
  async open(metrics: Metrics): Promise<PartDeps> {
    const redis = this.#redis;
    const commands = commandsOf(redis);
    const log = this.#log;
    const { RESULT_TTL_SECONDS, STORED_MIB, LOCK_MS } = this.#env;
    await whenReady(redis);
    const { refusal, warning } = await checkServer(redis, this.#url);
    const readyShards = () =>
      Promise.all(
        this.#all.map(async (shard) => {
          await whenReady(shard.#redis);
          return commandsOf(shard.#redis);
        }),
      );
    const onWait = () => {
      for (const shard of this.#all) {
        if (shard !== this) void shard.away.then(() => this.#waitFor(shard));
      }
    };
    const refused =
      refusal ?? (await checkShard(commands, this.number, this.#all.length, readyShards, onWait));
    if (refused !== null) throw new Error(refused);
    if (warning !== null) log.warn(warning);
    this.#clock = await startClock(redis, log);
    this.#waiting = null;
    const store = new JobStore(commands, RESULT_TTL_SECONDS * 1000, STORED_MIB);
    const deliveries = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: tagOf(redis) });
    deliveries.on("error", (error) => log.warn({ reason: error.message }, "Delivery queue error"));
    const sources = jobSources(commands, store);
    return {
      shard: this.number,
      connection: redis,
      clock: this.#clock,
      store,
      publisher: new WebhookPublisher(commands, deliveries),
      readJob: (record: JobRecord) => readJob(record, sources),
      log,
      metrics,
      lockMs: LOCK_MS,
    };
  }

  #waitFor(shard: WorkerShard): void {
    this.#setAway();
    if (this.#clock === null) this.#waiting = `It is new and waits for shard ${shard.number}`;
  }

  /** Gives it up: nothing of it has started. */
  close(reason: string): void {
    this.#refusal = reason;
    this.#log.error(`The shard is not served until the worker is started again: ${reason}`);
    this.#redis.disconnect();
  }
}
