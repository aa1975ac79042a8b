/** Places for the compilations of each tenant, which are taken in the order of arrival. */
import { AppError } from "../../shared/api/errors.ts";

/** Compilations of a tenant at the same time: each can take 10 MB of memory. */
const RUNNING_MAX = 4;
/** Requests of a tenant that wait for a place: each holds its body, and looks for a place again and again. */
const WAITING_MAX = 100;
/** Until a waiting request looks again. */
const WAIT_MS = 20;
/** A compilation without a part for so long does not count: the runtime may have dropped its request. */
const RUNNING_STALE_MS = 10_000;
/** The same for a waiting request that has not looked. If it is still there, it waits again behind the others. */
const WAITING_STALE_MS = 1_000;
const RETRY_AFTER_MS = 1_000;

/** A request that waits or compiles. */
export interface CompilePlace {
  /** When it was last active. */
  atMs: number;
}

interface TenantPlaces {
  running: CompilePlace[];
  /** In the order of arrival. */
  waiting: CompilePlace[];
}

export class CompilePlaces {
  readonly #now: () => number;
  readonly #tenants = new Map<string, TenantPlaces>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * Waits for a place.
   * @param check throws if the request must not wait any longer
   * @throws AppError rate_limit_exceeded if too many requests of the tenant wait
   */
  async take(tenant: string, check: () => void): Promise<CompilePlace> {
    const place = { atMs: this.#now() };
    const { waiting } = this.#ofTenant(tenant);
    if (waiting.length >= WAITING_MAX) throw tooManyWait();
    try {
      // Not by a promise of the other request: workerd lets no request wait for another one.
      while (!this.#isNext(tenant, place)) {
        await new Promise<void>((resolve) => void setTimeout(resolve, WAIT_MS));
        check();
      }
    } catch (error) {
      this.leave(tenant, place);
      throw error;
    }
    this.leave(tenant, place);
    this.#ofTenant(tenant).running.push(place);
    return place;
  }

  leave(tenant: string, place: CompilePlace): void {
    const places = this.#ofTenant(tenant);
    places.running = places.running.filter((other) => other !== place);
    places.waiting = places.waiting.filter((other) => other !== place);
    if (places.running.length + places.waiting.length === 0) this.#tenants.delete(tenant);
  }

  /** Whether the free places are enough for the request and those that came before it. */
  #isNext(tenant: string, place: CompilePlace): boolean {
    place.atMs = this.#now();
    const { running, waiting } = this.#ofTenant(tenant);
    if (!waiting.includes(place)) waiting.push(place);
    return waiting.indexOf(place) < RUNNING_MAX - running.length;
  }

  /** Without requests that the runtime has dropped. */
  #ofTenant(tenant: string): TenantPlaces {
    const known = this.#tenants.get(tenant);
    if (known) {
      this.#dropStale(known);
      return known;
    }
    for (const [name, places] of this.#tenants) {
      this.#dropStale(places);
      if (places.running.length + places.waiting.length === 0) this.#tenants.delete(name);
    }
    const places = { running: [], waiting: [] };
    this.#tenants.set(tenant, places);
    return places;
  }

  #dropStale(places: TenantPlaces): void {
    const isAfter = (atMs: number) => (place: CompilePlace) => place.atMs >= atMs;
    places.running = places.running.filter(isAfter(this.#now() - RUNNING_STALE_MS));
    places.waiting = places.waiting.filter(isAfter(this.#now() - WAITING_STALE_MS));
  }
}

function tooManyWait(): AppError {
  const message = `response_format: ${WAITING_MAX} requests of this account wait for the compilation of their formats already; send fewer at once`;
  return new AppError("rate_limit_exceeded", message, {
    param: "response_format",
    retryAfterMs: RETRY_AFTER_MS,
  });
}
