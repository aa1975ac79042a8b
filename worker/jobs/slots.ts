/**
 * The slots of a worker. The consumers of all shards share them: each takes jobs from its own Redis, and the one that was served least
 * recently is woken first when a slot becomes free.
 */
import type { JobRun } from "./job-run.ts";

/**
 * A busy worker takes a suspect this long after it was lost. An idle one takes it at once, because no other job is harmed if it
 * crashes the worker.
 */
const SUSPECT_WAIT_MS = 30_000;

/** A consumer that takes jobs for these slots. */
export interface SlotUser {
  /** Called when it may try again, after it had found no free slot. */
  readonly wake: () => void;
  /** Whether its Redis answers. Until it does, its jobs, which cannot go on, take no slot from the others. */
  readonly isAnswering: () => boolean;
}

export class Slots {
  readonly #count: number;
  readonly #runs = new Map<JobRun, SlotUser>();
  /** Those whose order to take a job is on its way. */
  readonly #reserved = new Set<SlotUser>();
  /** The least recently served first. */
  #users: SlotUser[] = [];
  /** Those that have found no free slot. */
  readonly #refused = new Set<SlotUser>();
  /** The one whose order, which is on its way, may take a suspect. */
  #suspectTaker: SlotUser | null = null;

  /** @param count of jobs that run at the same time, at most */
  constructor(count: number) {
    this.#count = count;
  }

  join(user: SlotUser): void {
    this.#users.push(user);
  }

  /** Keeps a slot for the job that the user takes next. @returns false if none is free: the user is woken when one is */
  reserve(user: SlotUser): boolean {
    if (!this.isFreeFor(user)) return false;
    this.#reserved.add(user);
    return true;
  }

  /** Whether the user could reserve a slot. If not, it is woken when it can. */
  isFreeFor(user: SlotUser): boolean {
    const holders = [...this.#runs.values(), ...[...this.#reserved].filter((by) => by !== user)];
    const used = holders.filter((by) => by === user || by.isAnswering());
    const isFree = used.length < this.#count;
    if (!isFree) this.#refused.add(user);
    return isFree;
  }

  /** The user's order has been answered. A slot for which it has taken no job is free again. */
  release(user: SlotUser): void {
    if (this.#suspectTaker === user) this.#suspectTaker = null;
    if (this.#reserved.delete(user)) this.#wakeRefused();
  }

  /** The user has taken a job for its slot. */
  add(user: SlotUser, run: JobRun): void {
    this.#reserved.delete(user);
    this.#runs.set(run, user);
    this.#users = [...this.#users.filter((other) => other !== user), user];
  }

  remove(run: JobRun): void {
    if (this.#runs.delete(run)) this.#wakeRefused();
  }

  /**
   * How long a suspect must have waited to be taken with the user's order, in ms; null if none may be taken, because another job, which
   * may be a suspect too, has no token yet, or another user's order may take a suspect now. Jobs and orders of a shard that does not
   * answer do not count: they would keep suspects from all workers until it is back.
   */
  suspectAfterMs(user: SlotUser): number | null {
    const taker = this.#suspectTaker;
    if (taker !== null && taker !== user && taker.isAnswering()) return null;
    const isSettled = [...this.#runs].every(
      ([run, by]) => run.tokens > 0 || (by !== user && !by.isAnswering()),
    );
    if (!isSettled) return null;
    this.#suspectTaker = user;
    return this.#runs.size === 0 ? 0 : SUSPECT_WAIT_MS;
  }

  #wakeRefused(): void {
    const refused = this.#users.filter((user) => this.#refused.has(user));
    this.#refused.clear();
    for (const user of refused) user.wake();
  }
}
