/** Reads the memory of processes from /proc, so it works on Linux only. */
import { readdirSync, readFileSync } from "node:fs";

interface ProcessInfo {
  /** Id of the process group. */
  readonly group: number;
  readonly residentBytes: number;
}

const PAGE_BYTES = 4_096;

/** Resident memory of a process group in bytes: a worker is one process, the edge several. */
export function residentBytesOfGroup(pgid: number): number {
  return processes()
    .filter(({ group }) => group === pgid)
    .reduce((sum, { residentBytes }) => sum + residentBytes, 0);
}

function processes(): ProcessInfo[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        // "pid (name) state parent group …"; the name may contain spaces and brackets.
        const [, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const [, resident] = readFileSync(`/proc/${name}/statm`, "utf8").split(" ");
        return [{ group: Number(group), residentBytes: Number(resident) * PAGE_BYTES }];
      } catch {
        // The process has ended in the meantime.
        return [];
      }
    });
}
