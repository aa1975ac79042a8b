/**
 * The calls to one base that wait for a place. A call that brings only what its sequence waits for comes before those with drafts, whose
 * other rows may never be used, and these before the first calls of new sequences, which compute whole prompts: otherwise a burst of new
 * jobs would stop those that run. Among calls of one kind the tenants take turns. Every fourth place goes to the call that has waited
 * longest, so that none waits for ever.
 */

/**
 * `probe`: checks of the base, which all other calls wait for. `needed`: one row, or more about one. `drafted`: a row, and further ones
 * along drafts. `first`: the first call of a sequence.
 */
export type CallKind = "probe" | "needed" | "drafted" | "first";

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

const OLDEST_EVERY = 4;

export class CallQueue {
  #placesFree: number;
  #grantsSinceOldest = 0;
  /** In the order of the kinds; of each by owner, the one whose turn is next first. */
  readonly #waiting: Readonly<Record<CallKind, Map<string, Waiting[]>>> = {
    probe: new Map(),
    needed: new Map(),
    drafted: new Map(),
    first: new Map(),
  };
  /** All of them, the one that has waited longest first. */
  readonly #oldest = new Set<Waiting>();

  /** @param places calls at once */
  constructor(places: number) {
    this.#placesFree = places;
  }

  get hasWaiting(): boolean {
    return this.#oldest.size > 0;
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
      const leave = () => {
        this.#remove(waiting);
        reject(signal.reason as Error);
      };
      const start = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const waiting: Waiting = { caller, start };
      owners.set(owner, [...(owners.get(owner) ?? []), waiting]);
      this.#oldest.add(waiting);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  #takeNext(): Waiting | null {
    const kinds = Object.values(this.#waiting);
    const [oldest] = this.#oldest;
    const isOldestsTurn =
      this.#grantsSinceOldest >= OLDEST_EVERY - 1 && this.#waiting.probe.size === 0;
    const [inTurn] = kinds.flatMap((owners) => [...owners.values()].slice(0, 1).flat());
    const taken = isOldestsTurn ? oldest : inTurn;
    if (!taken) return null;
    this.#grantsSinceOldest = isOldestsTurn ? 0 : this.#grantsSinceOldest + 1;
    this.#remove(taken);
    return taken;
  }

  /** Its owner comes behind the other ones. */
  #remove(waiting: Waiting): void {
    const { kind, owner } = waiting.caller;
    const owners = this.#waiting[kind];
    const rest = owners.get(owner)!.filter((one) => one !== waiting);
    owners.delete(owner);
    if (rest.length > 0) owners.set(owner, rest);
    this.#oldest.delete(waiting);
  }
}
