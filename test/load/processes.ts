/** Reads the memory and the processor time of processes from /proc, so it works on Linux only. */
import { readdirSync, readFileSync } from "node:fs";

interface ProcessInfo {
  /** Id of the process group. */
  readonly group: number;
  readonly residentBytes: number;
  readonly processorMs: number;
}

const PAGE_BYTES = 4_096;
/** Linux counts processor time for programs in hundredths of a second. */
const TICK_MS = 10;

/** Resident memory of a process group in bytes: a worker is one process, the edge several. */
export function residentBytesOfGroup(pgid: number): number {
  return sumOfGroup(pgid, ({ residentBytes }) => residentBytes);
}

/** Processor time that the processes of a group have used so far. */
export function processorMsOfGroup(pgid: number): number {
  return sumOfGroup(pgid, ({ processorMs }) => processorMs);
}

function sumOfGroup(pgid: number, valueOf: (info: ProcessInfo) => number): number {
  return processes()
    .filter(({ group }) => group === pgid)
    .reduce((sum, info) => sum + valueOf(info), 0);
}

function processes(): ProcessInfo[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        // "pid (name) state parent group …"; the name may contain spaces and brackets.
        const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const [, resident] = readFileSync(`/proc/${name}/statm`, "utf8").split(" ");
        const [user, system] = fields.slice(11);
        return [
          {
            group: Number(fields[2]),
            residentBytes: Number(resident) * PAGE_BYTES,
            processorMs: (Number(user) + Number(system)) * TICK_MS,
          },
        ];
      } catch {
        // The process has ended in the meantime.
        return [];
      }
    });
}
