/** The priorities of threads among all threads of the machine. */

/**
 * Of the threads that prepare requests. With a busy loop on each of two cores and a load of 8, in turns with nice 0, 5 and 10, a text of
 * 1,741 tokens took 31, 50 and 197 ms, in a second round 13, 20 and 88 ms. With nice 10 the slowest took 1.3 s, with nice 5 0.25 s; a
 * request for a tokenizer fails after 5 s.
 */
const NICE = 5;

/** Modules of Node, which this folder may not import. */
export interface NodeModules {
  readonly fs: {
    readonly readdirSync: (path: string) => string[];
    readonly readFileSync: (path: string, encoding: "utf8") => string;
    readonly readlinkSync: (path: string) => string;
  };
  readonly os: {
    readonly getPriority: (id: number) => number;
    readonly setPriority: (id: number, nice: number) => void;
  };
}

/**
 * Lowers the priority of the calling thread, so that on a machine without a free core other threads do not wait for it. Linux takes the id
 * of a thread for that of a process here. Elsewhere nothing changes.
 * @param name of the thread
 * @returns why it could not, if a sandbox denies it
 */
export function lowerThreadPriority(name: string, node: NodeModules): string[] {
  const link = orNull(() => node.fs.readlinkSync("/proc/thread-self")) ?? "";
  return lower(name, [/\d+$/.exec(link)?.[0]], node);
}

/**
 * The same for V8's own threads in this process, which collect the garbage of all threads and compile their code. For a thread that
 * compiles response formats they compute half as long as the thread itself, with the priority of the streams. Threads that do not wait
 * must not wait for them, so each collects its new objects alone.
 */
export function lowerHelperPriority(
  node: NodeModules & { readonly v8: { readonly setFlagsFromString: (flags: string) => void } },
): string[] {
  const { fs, v8 } = node;
  v8.setFlagsFromString("--no-parallel-scavenge");
  const tasks = "/proc/self/task";
  const nameOf = (id: string) => orNull(() => fs.readFileSync(`${tasks}/${id}/comm`, "utf8"));
  const ids = orNull(() => fs.readdirSync(tasks)) ?? [];
  return lower(
    "V8",
    ids.filter((id) => nameOf(id)?.trim() === "V8Worker"),
    node,
  );
}

function lower(name: string, ids: readonly (string | undefined)[], { os }: NodeModules): string[] {
  try {
    for (const id of ids.map(Number)) {
      // A process may not raise its priority.
      if (id > 0 && os.getPriority(id) < NICE) os.setPriority(id, NICE);
    }
    return [];
  } catch (error) {
    return [`The ${name} thread keeps its priority: ${(error as Error).message}`];
  }
}

/** Null where there is no such file. */
function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
