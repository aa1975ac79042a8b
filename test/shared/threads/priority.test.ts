/** Threads that may not change their priority, and machines without /proc. */
import { expect, test, vi } from "vitest";
import { lowerHelperPriority, lowerThreadPriority } from "../../../shared/threads/priority.ts";

const NAMES: Readonly<Record<string, string>> = { 7: "MainThread\n", 8: "V8Worker\n" };

function machine({ nice = 0, isDenied = false, hasProc = true } = {}) {
  const requireProc = () => {
    if (!hasProc) throw new Error("ENOENT");
  };
  const setPriority = vi.fn<(id: number, nice: number) => void>(() => {
    if (isDenied) throw new Error("setPriority returned EPERM");
  });
  const fs = {
    readlinkSync: () => (requireProc(), "7/task/9"),
    readdirSync: () => (requireProc(), Object.keys(NAMES)),
    readFileSync: (path: string) => NAMES[/\d+/.exec(path)![0]]!,
  };
  return {
    setPriority,
    fs,
    os: { getPriority: () => nice, setPriority },
    v8: { setFlagsFromString: vi.fn() },
  };
}

test("the calling thread, and the threads of V8, get a lower priority", () => {
  const own = machine();
  expect(lowerThreadPriority("prepare", own)).toEqual([]);
  expect(own.setPriority.mock.calls).toEqual([[9, 5]]);
  const helpers = machine();
  expect(lowerHelperPriority(helpers)).toEqual([]);
  expect(helpers.setPriority.mock.calls).toEqual([[8, 5]]);
});

test("a sandbox that denies it is a warning", () => {
  const reason = "thread keeps its priority: setPriority returned EPERM";
  expect(lowerThreadPriority("prepare", machine({ isDenied: true }))).toEqual([
    `The prepare ${reason}`,
  ]);
  expect(lowerHelperPriority(machine({ isDenied: true }))).toEqual([`The V8 ${reason}`]);
});

test.each([{ nice: 5 }, { nice: 19 }, { hasProc: false }])("nothing changes with %o", (options) => {
  const other = machine(options);
  expect([...lowerThreadPriority("prepare", other), ...lowerHelperPriority(other)]).toEqual([]);
  expect(other.setPriority).not.toHaveBeenCalled();
});
