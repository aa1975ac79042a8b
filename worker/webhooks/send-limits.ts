/**
 * Limits of the deliveries that one worker sends at the same time. Receivers that hang must not delay the webhooks of other
 * tenants, so a tenant gets a share of the sends that are free: the fewer are left, the fewer a tenant may have, but always one.
 */

/** Deliveries that one worker sends at once. They cost little: most of the time they wait for the receiver. */
export const SENDS_MAX = 256;
/** Those of one tenant among them, at most. */
const TENANT_SENDS_MAX = 16;
/** And not more than this part of the free ones: so 20 tenants whose receivers hang do not use up all. */
const TENANT_SHARE = 1 / 4;

export class SendLimits {
  readonly #byTenant = new Map<string, number>();
  #running = 0;

  /** Counts a send, if the tenant may have one more. */
  tryBegin(tenant: string): boolean {
    if (!this.hasRoom(tenant)) return false;
    this.#running++;
    this.#byTenant.set(tenant, this.#of(tenant) + 1);
    return true;
  }

  hasRoom(tenant: string): boolean {
    const share = Math.floor((SENDS_MAX - this.#running) * TENANT_SHARE);
    return this.#of(tenant) < Math.max(1, Math.min(TENANT_SENDS_MAX, share));
  }

  ended(tenant: string): void {
    this.#running--;
    const left = this.#of(tenant) - 1;
    if (left > 0) this.#byTenant.set(tenant, left);
    else this.#byTenant.delete(tenant);
  }

  #of(tenant: string): number {
    return this.#byTenant.get(tenant) ?? 0;
  }
}
