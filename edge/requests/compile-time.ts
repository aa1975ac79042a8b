/**
 * A share of the time for each tenant in which response formats are compiled. All requests run on one thread, and a format may
 * take it for about 100 ms, so the formats of one tenant, accepted or refused, must not stop the requests of others.
 */
import { AppError } from "../../shared/api/errors.ts";

/** Time that a tenant can use at once. */
const BURST_MS = 1_000;
/** A tenant gets this part of the time that passes. */
const SHARE = 0.25;
/** Tenants that are remembered. One that is forgotten begins with the whole burst. */
const TENANTS_MAX = 10_000;

interface Allowance {
  readonly leftMs: number;
  readonly atMs: number;
}

export class CompileTime {
  readonly #now: () => number;
  /** By tenant, the one that has compiled last at the end. */
  readonly #allowances = new Map<string, Allowance>();

  /** @param now time in ms. In workerd it stands still while a request computes: there each isolate has limits of its own. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Runs `compile`, and takes its time from the tenant's share.
   * @throws AppError rate_limit_exceeded if none is left; and the errors of `compile`
   */
  spend<T>(tenant: string, compile: () => T): T {
    const startMs = this.#now();
    const { leftMs, atMs } = this.#allowances.get(tenant) ?? { leftMs: BURST_MS, atMs: startMs };
    const left = Math.min(BURST_MS, leftMs + (startMs - atMs) * SHARE);
    if (left <= 0) {
      const message = `response_format: compiling the formats of this account has taken more than ${SHARE * 100} % of the time; send fewer or simpler ones`;
      throw new AppError("rate_limit_exceeded", message, {
        param: "response_format",
        retryAfterMs: Math.ceil((1 - left) / SHARE),
      });
    }
    try {
      return compile();
    } finally {
      const endMs = this.#now();
      this.#allowances.delete(tenant);
      this.#allowances.set(tenant, { leftMs: left - (endMs - startMs), atMs: endMs });
      if (this.#allowances.size > TENANTS_MAX) {
        this.#allowances.delete(this.#allowances.keys().next().value!);
      }
    }
  }
}
