/** Finds all descendants of a process, however they were started, by a mark in the environment that they inherit. */
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { expect } from "vitest";

export interface ProcessMark {
  /** Environment variables to start the process under test with. */
  readonly env: Readonly<Record<string, string>>;
  /** Ids of the marked processes that run now; only those whose command line contains `words`, if given. */
  readonly living: (words?: string) => Promise<number[]>;
  /** Waits until none runs. */
  readonly gone: () => Promise<void>;
}

export function newMark(): ProcessMark {
  const mark = randomUUID();
  const living = async (words = "") => {
    const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
    const found = await Promise.all(
      ids.map(async (id) => ((await commandOf(id, mark))?.includes(words) ? [Number(id)] : [])),
    );
    return found.flat();
  };
  return {
    env: { TRIMTAB_TEST_MARK: mark },
    living,
    gone: async () => expect.poll(() => living(), { timeout: 20_000, interval: 50 }).toEqual([]),
  };
}

/** The process's command line; null if it is not marked or has ended (a zombie has ended too). */
async function commandOf(id: string, mark: string): Promise<string | null> {
  try {
    if (!(await readFile(`/proc/${id}/environ`, "latin1")).includes(mark)) return null;
    return (await readFile(`/proc/${id}/cmdline`, "utf8")).replaceAll("\0", " ");
  } catch {
    return null;
  }
}
