/** The threads of this process, as Linux shows them. */
import { readdirSync, readFileSync } from "node:fs";
import { getPriority } from "node:os";
import { join } from "node:path";

const TASKS = "/proc/self/task";

/** The nice value of the thread with this name. */
export function niceOf(name: string): number {
  return getPriority(Number(readdirSync(TASKS).find((id) => nameOf(id) === name)));
}

/** Null if the thread has just ended. */
function nameOf(id: string): string | null {
  try {
    return readFileSync(join(TASKS, id, "comm"), "utf8").trim();
  } catch {
    return null;
  }
}
