/**
 * A share of the time for each tenant in which response formats are compiled. A format takes up to about 100 ms, and all formats are
 * compiled on one thread, so those of one tenant, accepted or refused, must not slow down the requests of others. On Node it is a
 * thread of its own (server/format-compiler.ts), in workerd that of the requests, which compiles in parts.
 */
import { AppError } from "../../shared/api/errors.ts";
import { inTurns, type Parts } from "../../shared/grammar/rules/parts.ts";
import type { DoneElsewhere } from "../http/compile-elsewhere.ts";
import { CompilePlaces, type CompilePlace } from "./compile-places.ts";

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

interface Allowance {
  readonly leftMs: number;
  readonly atMs: number;
}

export class CompileTime {
  readonly #now: () => number;
  readonly #threadTime: ThreadTime;
  /** By tenant, the one that has compiled last at the end. */
  readonly #allowances = new Map<string, Allowance>();
  readonly #places: CompilePlaces;

  /** @param now time in ms, by which shares grow */
  constructor(
    now: () => number = () => performance.now(),
    spent = hasThreadTime() ? threadTime : () => 0,
  ) {
    this.#now = now;
    this.#threadTime = spent;
    this.#places = new CompilePlaces(now);
  }

  /**
   * Does the work in turns with other requests, and takes its time from the tenant's share.
   * @throws AppError rate_limit_exceeded if none is left, or if too many formats of the tenant wait; and the errors of the work
   */
  spend<T>(tenant: string, work: Parts<T>): Promise<T> {
    return this.#inPlace(tenant, (place) =>
      inTurns(work, (part) => this.#timed(tenant, place, part)),
    );
  }

  /** The same for work on another thread. */
  spendElsewhere<T>(tenant: string, work: () => Promise<DoneElsewhere<T>>): Promise<T> {
    return this.#inPlace(tenant, async (place) => {
      // It always ends, so it never counts as dropped.
      place.atMs = Infinity;
      const { spentMs, result } = await work();
      const atMs = this.#now();
      this.#set(tenant, { leftMs: this.#leftMs(tenant, atMs) - spentMs, atMs });
      return result();
    });
  }

  async #inPlace<T>(tenant: string, run: (place: CompilePlace) => Promise<T>): Promise<T> {
    this.#requireTime(tenant);
    const place = await this.#places.take(tenant, () => this.#requireTime(tenant));
    try {
      return await run(place);
    } finally {
      this.#places.leave(tenant, place);
    }
  }

  #timed<P>(tenant: string, place: CompilePlace, part: () => P): P {
    const leftMs = this.#leftMs(tenant, this.#now());
    const startMs = this.#threadTime();
    try {
      return part();
    } finally {
      const spentMs = this.#threadTime() - startMs;
      place.atMs = this.#now();
      this.#set(tenant, { leftMs: leftMs - spentMs, atMs: place.atMs });
    }
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
