/**
 * A Redis to use: a server of our own on a free port, or a connection to one that is there.
 * If redis-server is missing it is installed where that can be done without asking anybody.
 */
import { spawnSync } from "node:child_process";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { redisOptions } from "../../shared/redis-url.ts";
import { freePort } from "./port.ts";
import { Problem } from "./problem.ts";
import { Child } from "./process.ts";

const CONFIG_NAME = "redis.conf";
const CONFIG = join(import.meta.dirname, "..", CONFIG_NAME);
const ANSWER_MS = 5_000;
const START_MS = 10_000;
/** Tries to start: a port that was free may be taken before the server binds it. */
const STARTS_MAX = 3;

export interface RedisServerOptions {
  /** To start one again where it was; otherwise a free one. */
  readonly port?: number;
  /** Whether writes survive a crash of the server; without it nothing is written to disk. */
  readonly aof?: boolean;
  /** Port of the master on this machine that it is a replica of. */
  readonly replicaOf?: number;
}

/** A server with its data in a temporary folder. */
export class RedisServer {
  readonly port: number;
  readonly url: string;
  readonly #folder: string;
  readonly #aof: boolean;
  readonly #replicaOf: number | undefined;
  #child: Child;
  #keepsData = false;

  constructor(folder: string, port: number, { aof = false, replicaOf }: RedisServerOptions) {
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.#folder = folder;
    this.#aof = aof;
    this.#replicaOf = replicaOf;
    this.#child = this.#spawn();
  }

  get child(): Child {
    return this.#child;
  }

  async answers(): Promise<void> {
    await this.#child.waitFor("PING to be answered", START_MS, () => pings(this.url));
  }

  /** Kills it, and starts it again with the data that it had on disk. */
  crash(): Promise<void> {
    return this.#again("SIGKILL");
  }

  /** Ends it as an operator would, and starts it again with its data. */
  restart(): Promise<void> {
    return this.#again("SIGTERM");
  }

  async #again(signal: NodeJS.Signals): Promise<void> {
    this.#keepsData = true;
    this.#child.kill(signal);
    await this.#child.exited;
    this.#keepsData = false;
    this.#child = this.#spawn();
    await this.answers();
  }

  /** Ends it and deletes its data. */
  stop(): Promise<void> {
    return this.#child.stop();
  }

  #spawn(): Child {
    const settings = {
      port: String(this.port),
      bind: "127.0.0.1",
      dir: this.#folder,
      appendonly: this.#aof ? "yes" : "no",
      ...(this.#replicaOf !== undefined && { replicaof: `127.0.0.1 ${this.#replicaOf}` }),
    };
    return new Child({
      name: "redis-server",
      command: "redis-server",
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
    // A copy, because a Sentinel has servers write down what it made of them.
    await copyFile(CONFIG, join(folder, CONFIG_NAME));
    const port = options.port ?? (await freePort());
    const server = new RedisServer(folder, port, options);
    try {
      await server.answers();
      return server;
    } catch (error) {
      if (start === STARTS_MAX) throw error;
    }
  }
}

/** A client whose server has answered; one line says so if it does not within five seconds. */
export async function connectRedis(url: string): Promise<Redis> {
  const redis = clientOf(url);
  let why = `no answer in ${ANSWER_MS / 1000} s`;
  redis.on("error", (error: NodeJS.ErrnoException) => (why = error.code ?? error.message));
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
    if (error instanceof Error && error.name === "ReplyError") why = error.message;
    redis.disconnect();
    throw new Problem(`Redis at ${withoutPassword(url)} does not answer: ${why}`);
  }
}

/** Makes sure that there is a redis-server to start. */
export function ensureRedisServer(say: (line: string) => void): void {
  if (hasCommand("redis-server", "--version")) return;
  const manually = "install Redis 6.2 or newer, or set REDIS_URL to a server that runs";
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  const canInstall =
    hasCommand("apt-get", "--version") && (asRoot.length === 0 || hasCommand("sudo", "-n", "true"));
  if (!canInstall) throw new Problem(`redis-server is not installed: ${manually}`);

  const apt = (...args: string[]) => {
    const [command = "", ...rest] = [...asRoot, "apt-get", ...args];
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    return spawnSync(command, rest, { env, encoding: "utf8" });
  };
  say("redis: redis-server is not installed; installing it with apt-get");
  // Without lists, as in a fresh image, nothing is found; an update that fails may still leave lists that serve.
  apt("update", "-qq");
  const result = apt("install", "-y", "-qq", "--no-install-recommends", "redis-server");
  if (result.status === 0 && hasCommand("redis-server", "--version")) return;
  const reason = result.stderr?.trim().split("\n").at(-1) ?? "";
  throw new Problem(`redis-server could not be installed with apt-get (${reason}): ${manually}`);
}

/** The URL as it may be shown. */
export function withoutPassword(url: string): string {
  return url.replace(/(\/\/[^/:@]*):[^@/]*@/, "$1:***@");
}

async function pings(url: string): Promise<boolean> {
  const redis = clientOf(url);
  redis.on("error", () => {});
  try {
    return (await redis.ping()) === "PONG";
  } finally {
    redis.disconnect();
  }
}

/** Fails at once where a long-running client would try again. */
function clientOf(url: string): Redis {
  return new Redis({
    ...redisOptions(url),
    connectTimeout: ANSWER_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
  });
}

function hasCommand(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
