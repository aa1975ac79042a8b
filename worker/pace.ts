/** How fast this worker is, from the jobs that it ended of late: told to all who estimate when a job will start. */
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Pace } from "../shared/eta.ts";
import type { JobRecord } from "../shared/job.ts";
import type { Outcome } from "../shared/contract.ts";
import { PACES_KEY } from "../shared/redis-keys.ts";

/** Ended jobs that are looked at. */
const JOBS_MAX = 50;
const TELL_MS = 1_000;
/** All workers' words are gone when none has spoken for so long. */
const TTL_MS = 60_000;

interface Ended {
  readonly tokens: number;
  readonly seconds: number;
  readonly cost: number;
}

export class PaceKeeper {
  readonly #slots: number;
  #busy = 0;
  readonly #jobs: Ended[] = [];

  constructor(slots: number) {
    this.#slots = slots;
  }

  enter(): void {
    this.#busy++;
  }

  leave(): void {
    this.#busy--;
  }

  /** Counts a job that ran in one piece here; one that never ran, or elsewhere before, tells nothing of this worker. */
  ended({ attempt, outcome, claimedAtMs, endedAtMs, cost }: JobRecord): void {
    const tokens = (outcome as Outcome).usage.total_tokens;
    if (attempt !== 1 || claimedAtMs === null || endedAtMs === null || tokens === 0) return;
    const seconds = Math.max(1, endedAtMs - claimedAtMs) / 1000;
    this.#jobs.push({ tokens, seconds, cost: Math.max(cost, 1) });
    if (this.#jobs.length > JOBS_MAX) this.#jobs.shift();
  }

  pace(nowMs: number): Pace {
    const { length } = this.#jobs;
    const sum = (of: (job: Ended) => number) =>
      this.#jobs.reduce((total, job) => total + of(job), 0);
    const mean = sum(({ tokens }) => tokens) / length;
    const known = <T>(value: T) => (length === 0 ? null : value);
    return {
      atMs: nowMs,
      slots: this.#slots,
      busy: this.#busy,
      tokensPerSecond: known((mean * length) / sum(({ seconds }) => seconds)),
      tokensMean: known(mean),
      share: known((mean * length) / sum(({ cost }) => cost)),
      spread: known(sum(({ tokens }) => (tokens / mean - 1) ** 2) / length),
    };
  }
}

/** @returns what stops the telling */
export function startTelling(
  keeper: PaceKeeper,
  name: string,
  redis: Redis,
  log: Logger,
): () => void {
  const tell = () => {
    const pace = JSON.stringify(keeper.pace(Date.now()));
    redis
      .multi()
      .hset(PACES_KEY, name, pace)
      .pexpire(PACES_KEY, TTL_MS)
      .exec()
      .catch((error: unknown) => log.warn({ err: error }, "telling the pace"));
  };
  tell();
  const timer = setInterval(tell, TELL_MS);
  return () => {
    clearInterval(timer);
    redis.hdel(PACES_KEY, name).catch(() => {});
  };
}
