/** A real stack whose parts can be hurt: Redis with its log on disk, the edge on one port, and workers that are replaced. */
import { setTimeout as delay } from "node:timers/promises";
import { startEdge, type Edge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type Worker } from "../../infra/stack/worker.ts";

/** Short, so that many takeovers fit into a short run. */
export const LOCK_MS = 2_000;

const RECEIVERS = { WEBHOOK_ALLOW: "127.0.0.1" };
const WORKER_ENV = {
  ...RECEIVERS,
  LOG_LEVEL: "warn",
  LOCK_MS: String(LOCK_MS),
  SLOTS: "4",
  DRAIN_SECONDS: "2",
  // Here workers are lost so often that it says nothing about a job.
  ATTEMPTS_MAX: "100",
};
/** A stream that hears no bell looks into the log after a second. */
const EDGE_ENV = { ...RECEIVERS, STREAM_HEARTBEAT_SECONDS: "1" };

/** A place that one process after another has. */
class Seat<T extends Worker | Edge> {
  readonly #start: () => Promise<T>;
  #process: T | null = null;
  #isHurt = false;
  /** How the processes ended that nobody had ended. */
  readonly deaths: string[] = [];

  constructor(start: () => Promise<T>) {
    this.#start = start;
  }

  async fill(): Promise<void> {
    const process = await this.#start();
    this.#process = process;
    this.#isHurt = false;
    const { child } = process;
    void child.exited.then(({ code, signal }) => {
      if (this.#process !== process || this.#isHurt) return;
      this.deaths.push(`${child.name} ended by itself (${signal ?? code}): ${child.output}`);
    });
  }

  /** Ends the process with a signal, and starts another after a while. */
  async replace(signal: NodeJS.Signals, emptyMs: number): Promise<void> {
    const { child } = this.#process!;
    this.#isHurt = true;
    child.kill(signal);
    await child.exited;
    await delay(emptyMs);
    await this.fill();
  }

  /** Stops the process for a while, as a long pause of its machine does. */
  async freeze(ms: number): Promise<void> {
    const { child } = this.#process!;
    child.kill("SIGSTOP");
    await delay(ms);
    child.kill("SIGCONT");
  }
}

export interface Cluster {
  readonly redis: RedisServer;
  readonly edge: Seat<Edge>;
  readonly edgeUrl: string;
  readonly workers: readonly Seat<Worker>[];
}

export async function startCluster(workerCount: number): Promise<Cluster> {
  const redis = await startRedis({ aof: true });
  const redisUrl = redis.url;
  const port = await freePort();
  const edge = new Seat(() => startEdge({ redisUrl, port, env: EDGE_ENV }));
  const workers = Array.from(
    { length: workerCount },
    () => new Seat(() => startWorker({ redisUrl, env: WORKER_ENV })),
  );
  await Promise.all([edge, ...workers].map((seat) => seat.fill()));
  return { redis, edge, edgeUrl: `http://127.0.0.1:${port}`, workers };
}
