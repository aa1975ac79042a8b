/** A real stack for faults: Redis with an append-only file, the edge on a fixed port, and several workers. */
import { setTimeout as delay } from "node:timers/promises";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type WorkerProcess } from "../../infra/stack/worker.ts";

/** Short, so that a short run has many takeovers. */
export const LOCK_MS = 2_000;

const WEBHOOK_ENV = { WEBHOOK_ALLOW: "127.0.0.1" };
const WORKER_ENV = {
  ...WEBHOOK_ENV,
  LOG_LEVEL: "warn",
  LOCK_MS: String(LOCK_MS),
  SLOTS: "4",
  DRAIN_SECONDS: "2",
  // Above the longest freeze, and short enough for a hang to be reported before the end of the run.
  HANG_SECONDS: "45",
  // Workers are killed so often here that many lost attempts do not mean that a job crashes its workers.
  ATTEMPTS_MAX: "100",
};
/** A stream that gets no notification reads the log after a second. */
const EDGE_ENV = { ...WEBHOOK_ENV, STREAM_HEARTBEAT_SECONDS: "1" };

/** Messages of a worker's watchdogs. */
const HANG = /makes no progress|does not answer: it is killed/;

const hangLines = ({ output }: Child) => output.split("\n").filter((line) => HANG.test(line));

/** A process that can be frozen, and ended and replaced by a new one. */
class ReplaceableProcess<T extends WorkerProcess | EdgeProcess> {
  readonly #startProcess: () => Promise<T>;
  #process: T | null = null;
  #isReplacing = false;
  /** A line for each process that ended although `replace` was not called. */
  readonly unexpectedExits: string[] = [];
  /** Log lines of the watchdogs of its processes that have ended. */
  readonly #hangs: string[] = [];

  constructor(start: () => Promise<T>) {
    this.#startProcess = start;
  }

  async start(): Promise<void> {
    const process = await this.#startProcess();
    this.#process = process;
    this.#isReplacing = false;
    const { child } = process;
    void child.exited.then(({ code, signal }) => {
      this.#hangs.push(...hangLines(child));
      if (this.#process !== process || this.#isReplacing) return;
      this.unexpectedExits.push(
        `${child.name} ended unexpectedly (${signal ?? code}): ${child.lastLines}`,
      );
    });
  }

  /** Log lines of the watchdogs of all its processes. A hang is a bug, also if the job goes on. */
  get hangs(): readonly string[] {
    const { child } = this.#process!;
    return child.running ? [...this.#hangs, ...hangLines(child)] : this.#hangs;
  }

  /** Ends the process with a signal and starts a new one after a pause. */
  async replace(signal: NodeJS.Signals, pauseMs: number): Promise<void> {
    const { child } = this.#process!;
    this.#isReplacing = true;
    child.kill(signal);
    await child.exited;
    await delay(pauseMs);
    await this.start();
  }

  /** Suspends the process, as a long pause of its machine does. */
  async freeze(ms: number): Promise<void> {
    const { child } = this.#process!;
    child.kill("SIGSTOP");
    await delay(ms);
    child.kill("SIGCONT");
  }
}

/** Starts processes that only compute, so that all others get little time of the processors. */
export function startBusyProcesses(count: number): Child[] {
  return Array.from({ length: count }, () => {
    const args = ["-e", "for (;;);"];
    return new Child({ name: "busy process", command: process.execPath, args });
  });
}

export interface Cluster {
  readonly redis: RedisServer;
  readonly edge: ReplaceableProcess<EdgeProcess>;
  readonly edgeUrl: string;
  readonly workers: readonly ReplaceableProcess<WorkerProcess>[];
}

export async function startCluster(workerCount: number): Promise<Cluster> {
  const redis = await startRedis({ aof: true });
  const redisUrl = redis.url;
  const port = await freePort();
  const edge = new ReplaceableProcess(() => startEdge({ redisUrl, port, env: EDGE_ENV }));
  const workers = Array.from(
    { length: workerCount },
    () => new ReplaceableProcess(() => startWorker({ redisUrl, env: WORKER_ENV })),
  );
  await Promise.all([edge, ...workers].map((process) => process.start()));
  return { redis, edge, edgeUrl: `http://127.0.0.1:${port}`, workers };
}
