/** The priority of a thread among all threads of the machine. */
import { readlinkSync } from "node:fs";
import { getPriority, setPriority } from "node:os";

/**
 * With a busy loop on each of two cores and a load of 8, in turns with nice 0, 5 and 10, a text of 1,741 tokens took 31, 50 and 197 ms,
 * in a second round 13, 20 and 88 ms. With nice 10 the slowest took 1.3 s, with nice 5 0.25 s; a request for a tokenizer fails after 5 s.
 */
const NICE = 5;

/**
 * Lowers the priority of the calling thread, so that on a machine without a free core the engine thread does not wait for it. Linux takes
 * the id of a thread for that of a process here. Elsewhere nothing changes.
 * @returns why it could not, if a sandbox denies it
 */
export function lowerThreadPriority(): string[] {
  try {
    const id = threadId();
    // A process may not raise its priority.
    if (id !== null && getPriority(id) < NICE) setPriority(id, NICE);
    return [];
  } catch (error) {
    return [`The prepare thread keeps its priority: ${(error as Error).message}`];
  }
}

/** The id that Linux gives the calling thread; null elsewhere. */
function threadId(): number | null {
  try {
    return Number(/\d+$/.exec(readlinkSync("/proc/thread-self"))?.[0] ?? null) || null;
  } catch {
    return null;
  }
}
