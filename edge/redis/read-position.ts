/**
 * How far a reader of a log is, and whether the log still has what it has read. When Redis fails over to a replica, the last
 * writes may be lost, and other entries get their numbers: the reader could then miss some or get some twice.
 */
import { AppError } from "../../shared/api/errors.ts";

export class ReadPosition<T extends { readonly seq: number }> {
  /** Sequence number of the last entry that the reader has; 0 for none. */
  seq: number;
  /** The entry itself; null before this process has sent one. */
  #last: T | null = null;
  /** Whether Redis may be another server than the one from which the entry came. */
  mustCheck = false;

  constructor(seq: number) {
    this.seq = seq;
  }

  /** The reader gets this entry. */
  advance(entry: T): void {
    this.seq = entry.seq;
    this.#last = entry;
  }

  /**
   * Checks the log if this is necessary.
   * @param has whether the log has the entry with this number, and it equals `last` if that is known
   * @returns false if the log was deleted
   * @throws AppError events_lost if the log has lost what the reader has
   */
  async isKept(
    has: (seq: number, last: T | null) => Promise<boolean>,
    isDeleted: () => Promise<boolean>,
  ): Promise<boolean> {
    if (!this.mustCheck) return true;
    this.mustCheck = false;
    if (this.seq === 0 || (await has(this.seq, this.#last))) return true;
    if (await isDeleted()) return false;
    throw eventsLost();
  }

  /** The entries that come next: of those that have arrived, if they follow without a gap, or else read from the log. */
  async next(
    arrived: readonly T[],
    read: (after: number) => Promise<readonly T[]>,
  ): Promise<readonly T[]> {
    const unread = arrived.filter(({ seq }) => seq > this.seq);
    const isComplete = unread.every(({ seq }, i) => seq === this.seq + 1 + i);
    return unread.length > 0 && isComplete ? unread : read(this.seq);
  }
}

/** The error for a reader that has events which the server does not have any more. */
export function eventsLost(param?: string): AppError {
  const message = "The server has lost events that the reader has: read them again from the first";
  return new AppError("events_lost", message, param === undefined ? {} : { param });
}
