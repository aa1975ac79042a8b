/** The priority of a thread among all threads of the machine. */

/** Of Node, which this folder may not import. */
export interface PriorityCalls {
  readonly readlinkSync: (path: string) => string;
  readonly getPriority: (id: number) => number;
  readonly setPriority: (id: number, nice: number) => void;
}

/**
 * Lowers the priority of the calling thread, so that on a machine without a free core other threads do not wait for it. Linux takes the id
 * of a thread for that of a process here. Elsewhere nothing changes.
 * @param name of the thread
 * @returns why it could not, if a sandbox denies it
 */
export function lowerThreadPriority(name: string, nice: number, calls: PriorityCalls): string[] {
  try {
    const id = threadId(calls);
    // A process may not raise its priority.
    if (id !== null && calls.getPriority(id) < nice) calls.setPriority(id, nice);
    return [];
  } catch (error) {
    return [`The ${name} thread keeps its priority: ${(error as Error).message}`];
  }
}

/** The id that Linux gives the calling thread; null elsewhere. */
function threadId({ readlinkSync }: PriorityCalls): number | null {
  try {
    return Number(/\d+$/.exec(readlinkSync("/proc/thread-self"))?.[0] ?? null) || null;
  } catch {
    return null;
  }
}
