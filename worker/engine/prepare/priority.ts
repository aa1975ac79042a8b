/** The priority of a thread among all threads of the machine. */
import { readlinkSync } from "node:fs";
import { constants, getPriority, setPriority } from "node:os";

/**
 * Lowers the priority of the calling thread, so that on a machine without a free core the engine thread does not wait for it. Linux takes
 * the id of a thread for that of a process here. Elsewhere nothing changes.
 */
export function lowerThreadPriority(): void {
  const id = threadId();
  const { PRIORITY_BELOW_NORMAL } = constants.priority;
  // A process may not raise its priority.
  if (id !== null && getPriority(id) < PRIORITY_BELOW_NORMAL)
    setPriority(id, PRIORITY_BELOW_NORMAL);
}

/** The id that Linux gives the calling thread; null elsewhere. */
function threadId(): number | null {
  try {
    return Number(/\d+$/.exec(readlinkSync("/proc/thread-self"))?.[0] ?? null) || null;
  } catch {
    return null;
  }
}
