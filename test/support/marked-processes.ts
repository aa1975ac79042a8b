/** Finds every process that descends from one, however it was started: by a mark in the environment that all inherit. */
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { expect } from "vitest";

export interface Mark {
  /** To be passed to the process under test. */
  readonly env: Readonly<Record<string, string>>;
  /** Ids of the processes that live now, of those only whose command line has the words, if any are given. */
  readonly living: (words?: string) => Promise<number[]>;
  /** Waits until none lives. */
  readonly gone: () => Promise<void>;
}

export function newMark(): Mark {
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

/** The command line, or null if the process is not marked or has ended, also if nobody has collected it yet. */
async function commandOf(id: string, mark: string): Promise<string | null> {
  try {
    if (!(await readFile(`/proc/${id}/environ`, "latin1")).includes(mark)) return null;
    return (await readFile(`/proc/${id}/cmdline`, "utf8")).replaceAll("\0", " ");
  } catch {
    return null;
  }
}
