/**
 * A share of the time for each tenant in which response formats are compiled. All requests run on one thread, and a format takes
 * up to about 100 ms of it, in parts, so the formats of one tenant, accepted or refused, must not slow down the requests of others.
 */
import { AppError } from "../../shared/api/errors.ts";
import { inTurns, type Parts } from "../../shared/grammar/rules/parts.ts";

/** Time that a tenant can use at once. */
const BURST_MS = 1_000;
/** A tenant gets this part of the time that passes. */
const SHARE = 0.25;
/** Tenants that are remembered. One that is forgotten begins with the whole burst. */
const TENANTS_MAX = 10_000;

/** Processor time of this thread in ms: a machine that is busy with other things does not use up a share. */
type ThreadTime = () => number;

/** Node's. workerd has none; its time stands still while a request computes, and each isolate has limits of its own. */
const threadTime: ThreadTime = () => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};

function hasThreadTime(): boolean {
  try {
    return threadTime() >= 0;
  } catch {
    return false;
  }
}

/** Compilations of a tenant at the same time: each can take 10 MB of memory. */
const RUNNING_MAX = 4;
/** Until a further one looks again. */
const WAIT_MS = 20;
/** A compilation without a part for so long does not count. */
const STALE_MS = 10_000;

interface Running {
  readonly tenant: string;
  /** When its last part ended. */
  atMs: number;
}

interface Allowance {
  readonly leftMs: number;
  readonly atMs: number;
}

export class CompileTime {
  readonly #now: () => number;
  readonly #threadTime: ThreadTime;
  /** By tenant, the one that has compiled last at the end. */
  readonly #allowances = new Map<string, Allowance>();
  readonly #running = new Set<Running>();

  /** @param now time in ms, by which shares grow */
  constructor(
    now: () => number = () => performance.now(),
    spent = hasThreadTime() ? threadTime : () => 0,
  ) {
    this.#now = now;
    this.#threadTime = spent;
  }

  /**
   * Does the work in turns with other requests, and takes its time from the tenant's share.
   * @throws AppError rate_limit_exceeded if none is left; and the errors of the work
   */
  async spend<T>(tenant: string, work: Parts<T>): Promise<T> {
    this.#requireTime(tenant);
    // Not by a promise of the other request: workerd lets no request wait for another one.
    while (this.#isFull(tenant)) {
      await new Promise<void>((resolve) => void setTimeout(resolve, WAIT_MS));
      this.#requireTime(tenant);
    }
    const running = { tenant, atMs: this.#now() };
    this.#running.add(running);
    try {
      return await inTurns(work, (part) => this.#timed(running, part));
    } finally {
      this.#running.delete(running);
    }
  }

  #timed<P>(running: Running, part: () => P): P {
    const leftMs = this.#leftMs(running.tenant, this.#now());
    const startMs = this.#threadTime();
    try {
      return part();
    } finally {
      const spentMs = this.#threadTime() - startMs;
      running.atMs = this.#now();
      this.#set(running.tenant, { leftMs: leftMs - spentMs, atMs: running.atMs });
    }
  }

  #isFull(tenant: string): boolean {
    let count = 0;
    for (const running of this.#running) {
      // The runtime may have dropped its request.
      if (running.atMs < this.#now() - STALE_MS) this.#running.delete(running);
      else if (running.tenant === tenant) count++;
    }
    return count >= RUNNING_MAX;
  }

  /** @throws AppError if the tenant has used more than its share */
  #requireTime(tenant: string): void {
    const leftMs = this.#leftMs(tenant, this.#now());
    if (leftMs > 0) return;
    const message = `response_format: compiling the formats of this account has taken more than ${SHARE * 100} % of the time; send fewer or simpler ones`;
    throw new AppError("rate_limit_exceeded", message, {
      param: "response_format",
      retryAfterMs: Math.ceil((1 - leftMs) / SHARE),
    });
  }

  #leftMs(tenant: string, atMs: number): number {
    const known = this.#allowances.get(tenant);
    if (!known) return BURST_MS;
    return Math.min(BURST_MS, known.leftMs + (atMs - known.atMs) * SHARE);
  }

  #set(tenant: string, allowance: Allowance): void {
    this.#allowances.delete(tenant);
    this.#allowances.set(tenant, allowance);
    if (this.#allowances.size > TENANTS_MAX) {
      this.#allowances.delete(this.#allowances.keys().next().value!);
    }
  }
}
