/** What processes hold, as /proc tells; on other systems nothing is known of them. */
import { readdirSync, readFileSync } from "node:fs";

interface Status {
  readonly group: number;
  readonly residentBytes: number;
}

const PAGE_BYTES = 4_096;

/** Bytes of memory that a process group holds now: a worker is one process, the edge several. */
export function groupMemory(pgid: number): number {
  return processes()
    .filter(({ group }) => group === pgid)
    .reduce((sum, { residentBytes }) => sum + residentBytes, 0);
}

function processes(): Status[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        // The name, in brackets, may hold anything; the numbers after it are: state, parent, group.
        const [, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const [, resident] = readFileSync(`/proc/${name}/statm`, "utf8").split(" ");
        return [{ group: Number(group), residentBytes: Number(resident) * PAGE_BYTES }];
      } catch {
        // It ended meanwhile.
        return [];
      }
    });
}
