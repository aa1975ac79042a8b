/**
 * The calls to one base that wait for a place. Calls that continue a sequence come before the first ones of new sequences, which
 * compute whole prompts: otherwise a burst of new jobs would stop those that run. Every fourth place goes to a first call all
 * the same. Among calls of one kind the tenants take turns.
 */

/** `probe`: checks of the base, which all other calls wait for. `first`: the first call of a sequence. `next`: all others. */
export type CallKind = "probe" | "first" | "next";

export interface Caller {
  readonly kind: CallKind;
  /** Owners take turns. */
  readonly owner: string;
  readonly signal: AbortSignal;
}

interface Waiting {
  readonly caller: Caller;
  readonly start: () => void;
}

/** While both wait, one place of so many goes to a first call. */
const FIRST_EVERY = 4;

export class CallQueue {
  #placesFree: number;
  #grantsSinceFirst = 0;
  /** By kind and owner; the owner whose turn is next is the first one. */
  readonly #waiting: Readonly<Record<CallKind, Map<string, Waiting[]>>> = {
    probe: new Map(),
    next: new Map(),
    first: new Map(),
  };

  /** @param places calls at once */
  constructor(places: number) {
    this.#placesFree = places;
  }

  /**
   * Waits for a place.
   * @returns a function that frees it
   * @throws the signal's reason
   */
  async enter(caller: Caller): Promise<() => void> {
    caller.signal.throwIfAborted();
    if (this.#placesFree > 0) this.#placesFree--;
    else await this.#wait(caller);
    return () => {
      const next = this.#takeNext();
      if (next) next.start();
      else this.#placesFree++;
    };
  }

  #wait(caller: Caller): Promise<void> {
    const { kind, owner, signal } = caller;
    const owners = this.#waiting[kind];
    return new Promise((resolve, reject) => {
      const own = owners.get(owner) ?? [];
      const leave = () => {
        own.splice(own.indexOf(waiting), 1);
        if (own.length === 0) owners.delete(owner);
        reject(signal.reason as Error);
      };
      const start = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const waiting: Waiting = { caller, start };
      own.push(waiting);
      owners.set(owner, own);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  #takeNext(): Waiting | null {
    const { probe, next, first } = this.#waiting;
    const isFirstsTurn = first.size > 0 && this.#grantsSinceFirst >= FIRST_EVERY - 1;
    const kinds = isFirstsTurn ? [probe, first, next] : [probe, next, first];
    const owners = kinds.find(({ size }) => size > 0);
    if (!owners) return null;
    this.#grantsSinceFirst = owners === first ? 0 : this.#grantsSinceFirst + 1;
    const [[owner, own]] = owners as unknown as [[string, Waiting[]]];
    owners.delete(owner);
    const [taken] = own.splice(0, 1);
    // Behind the other owners.
    if (own.length > 0) owners.set(owner, own);
    return taken!;
  }
}
