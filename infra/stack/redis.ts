/**
 * Starts Redis servers on free ports and connects to existing ones. bootstrap.mjs has installed redis-server; the variable
 * REDIS_SERVER names another command, such as valkey-server.
 */
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import * as v from "valibot";
import { redisOptions, redisTlsVariables, RedisUrl } from "../../shared/redis/url.ts";
import { freePort } from "./port.ts";
import { UserError } from "./user-error.ts";
import { Child } from "./process.ts";

const CONFIG_NAME = "redis.conf";
const CONFIG = join(import.meta.dirname, "../deploy", CONFIG_NAME);
export const REDIS_COMMAND = process.env["REDIS_SERVER"] || "redis-server";
const ANSWER_MS = 5_000;
const START_MS = 10_000;
/** Another process may take a free port before the server binds it; then the start is repeated. */
const STARTS_MAX = 3;
const FILLER_KEYS = 4_096;
const FILLER_KEPT_MS = 60_000;

export interface RedisServerOptions {
  /** Default: a free port. */
  readonly port?: number;
  /** Whether writes survive a crash of the server (append-only file); default: nothing is written to disk. */
  readonly aof?: boolean;
  /** Port of a master on this machine; the server is then its replica. */
  readonly replicaOf?: number;
  /** The server is a node of a cluster, and talks to the other nodes on this port. */
  readonly clusterPort?: number;
  /** Further settings, by their names in redis.conf. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A running server whose data is in a temporary folder. */
export class RedisServer {
  readonly port: number;
  readonly url: string;
  readonly #folder: string;
  readonly #aof: boolean;
  readonly #replicaOf: number | undefined;
  readonly #settings: Readonly<Record<string, string>>;
  readonly clusterPort: number | undefined;
  #child: Child;
  #keepsData = false;

  constructor(folder: string, port: number, options: RedisServerOptions) {
    const { aof = false, replicaOf, clusterPort, settings = {} } = options;
    this.#settings = settings;
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.#folder = folder;
    this.#aof = aof;
    this.#replicaOf = replicaOf;
    this.clusterPort = clusterPort;
    this.#child = this.#spawn();
  }

  get child(): Child {
    return this.#child;
  }

  /** Waits until the server answers. @throws UserError after 10 s */
  async waitUntilReady(): Promise<void> {
    await this.#child.waitFor("an answer to PING", START_MS, () => pings(this.url));
  }

  /**
   * Kills the server and starts it again with the data that it had on disk: all that it had answered.
   * @param loadMs how long it loads them at least, as with much more data; it answers LOADING meanwhile
   */
  async crash({ loadMs = 0 } = {}): Promise<void> {
    // Redis postpones writes to its file while the disk is slow, unless it syncs each one.
    const redis = await connectRedis(this.url);
    await redis.config("SET", "appendfsync", "always");
    if (loadMs > 0) await writeFiller(redis);
    redis.disconnect();
    return this.#startAgain("SIGKILL", loadMs);
  }

  /** Stops the server in an orderly way and starts it again with its data. */
  restart(): Promise<void> {
    return this.#startAgain("SIGTERM");
  }

  async #startAgain(signal: NodeJS.Signals, loadMs = 0): Promise<void> {
    this.#keepsData = true;
    this.#child.kill(signal);
    await this.#child.exited;
    this.#keepsData = false;
    this.#child = this.#spawn(Math.ceil((1000 * loadMs) / FILLER_KEYS));
    await this.waitUntilReady();
  }

  /** Stops the server and deletes its data. */
  stop(): Promise<void> {
    return this.#child.stop();
  }

  /** @param loadDelayUs pause after each key that is loaded */
  #spawn(loadDelayUs = 0): Child {
    const settings = {
      port: String(this.port),
      bind: "127.0.0.1",
      dir: this.#folder,
      appendonly: this.#aof ? "yes" : "no",
      ...(this.#replicaOf !== undefined && { replicaof: `127.0.0.1 ${this.#replicaOf}` }),
      ...(this.clusterPort !== undefined && {
        "cluster-enabled": "yes",
        "cluster-port": String(this.clusterPort),
      }),
      ...this.#settings,
      ...(loadDelayUs > 0 && { "key-load-delay": String(loadDelayUs) }),
    };
    return new Child({
      name: REDIS_COMMAND,
      command: REDIS_COMMAND,
      args: [
        join(this.#folder, CONFIG_NAME),
        ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
      ],
      cleanUp: async () => {
        if (!this.#keepsData) await rm(this.#folder, { recursive: true, force: true });
      },
    });
  }
}

/** Starts a server and waits until it answers. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  for (let start = 1; ; start++) {
    const folder = await mkdtemp(join(tmpdir(), "trimtab-redis-"));
    // A copy, because a server that a Sentinel reconfigures writes the change into its configuration file.
    await copyFile(CONFIG, join(folder, CONFIG_NAME));
    const port = options.port ?? (await freePort());
    const server = new RedisServer(folder, port, options);
    try {
      await server.waitUntilReady();
      return server;
    } catch (error) {
      if (start === STARTS_MAX) throw error;
    }
  }
}

/**
 * A client that is connected to a server which has answered. It does not reconnect.
 * @throws UserError if the URL is invalid or there is no answer within five seconds
 */
export async function connectRedis(url: string): Promise<Redis> {
  const redis = failFastClient(url);
  let reason = `no answer in ${ANSWER_MS / 1000} s`;
  redis.on("error", (error: NodeJS.ErrnoException) => (reason = error.code ?? error.message));
  const late = AbortSignal.timeout(ANSWER_MS);
  try {
    await Promise.race([
      redis.ping(),
      new Promise((_, reject) =>
        late.addEventListener("abort", () => reject(late.reason as Error)),
      ),
    ]);
    return redis;
  } catch (error) {
    if (error instanceof Error && error.name === "ReplyError") reason = error.message;
    redis.disconnect();
    throw new UserError(`Redis at ${withoutPassword(url)} does not answer: ${reason}`);
  }
}

/** One or several URLs with their passwords replaced by ***, for messages. */
export function withoutPassword(url: string): string {
  return url
    .replace(/(\/\/[^/:@\s]*):[^@/\s]*@/g, "$1:***@")
    .replace(/(sentinel_password=)[^&\s]*/g, "$1***");
}

/** Keys that take time to load. Redis answers LOADING between groups of 1,024. */
async function writeFiller(redis: Redis): Promise<void> {
  const writes = redis.pipeline();
  for (let i = 0; i < FILLER_KEYS; i++) writes.set(`filler:${i}`, "", "PX", FILLER_KEPT_MS);
  await writes.exec();
}

async function pings(url: string): Promise<boolean> {
  const redis = failFastClient(url);
  redis.on("error", () => {});
  try {
    return (await redis.ping()) === "PONG";
  } finally {
    redis.disconnect();
  }
}

/**
 * A client that fails at once instead of reconnecting, as the clients of long-running processes do.
 * @throws UserError if the URL is invalid; the message does not contain the URL, which may hold a password
 */
function failFastClient(url: string): Redis {
  const own = {
    connectTimeout: ANSWER_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
  };
  try {
    const tls = v.parse(v.object(redisTlsVariables), process.env);
    return new Redis(redisOptions(v.parse(RedisUrl, url), tls, own));
  } catch (error) {
    throw new UserError(`Redis URL: ${error instanceof Error ? error.message : String(error)}`);
  }
}
