/**
 * Bytes of request bodies that this process holds in memory: those that arrive, and those of requests that are being handled. Both
 * the sum and each tenant's part are bounded, and only bytes that have arrived count, so a client cannot take room by a header.
 */
import { AppError } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/api/limits.ts";

const RETRY_MS = 1_000;

let total = 0;
const byTenant = new Map<string, number>();

/** The bytes of one request. */
export class HeldBytes {
  readonly #tenant: string;
  #bytes = 0;

  constructor(tenant: string) {
    this.#tenant = tenant;
  }

  /**
   * Takes room for more bytes.
   * @throws AppError rate_limit_exceeded if the tenant has no more room, overloaded if the process has none
   */
  take(bytes: number): void {
    const { heldBytesPerTenantMax, heldBytesMax } = LIMITS;
    const own = (byTenant.get(this.#tenant) ?? 0) + bytes;
    if (own > heldBytesPerTenantMax) {
      const message = `The bodies of a tenant's requests may have at most ${heldBytesPerTenantMax} bytes together at any moment; send fewer at once`;
      throw new AppError("rate_limit_exceeded", message, { retryAfterMs: RETRY_MS });
    }
    if (total + bytes > heldBytesMax) {
      const message = "The server holds as many bytes of requests as it can; try again";
      throw new AppError("overloaded", message, { retryAfterMs: RETRY_MS });
    }
    total += bytes;
    byTenant.set(this.#tenant, own);
    this.#bytes += bytes;
  }

  /** Gives all room back. */
  release(): void {
    total -= this.#bytes;
    const rest = (byTenant.get(this.#tenant) ?? 0) - this.#bytes;
    if (rest > 0) byTenant.set(this.#tenant, rest);
    else byTenant.delete(this.#tenant);
    this.#bytes = 0;
  }
}
