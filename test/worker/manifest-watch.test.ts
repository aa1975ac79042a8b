/** When a worker follows its manifest, and in which order; the threads are replaced. */
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, expect, test } from "vitest";
import { ManifestNotFollowed } from "../../worker/engine-client/ensemble-changes.ts";
import { ManifestWatch } from "../../worker/manifest-watch.ts";
import { folderOf } from "../support/tokenizers.ts";

const watches: ManifestWatch[] = [];
afterEach(() => {
  for (const watch of watches.splice(0)) watch.close();
});

/** A watch of a manifest with these ids. */
function watchOf(served: readonly string[]) {
  const state = { manifest: [...served], loaded: [...served], failure: null as Error | null };
  /** The ensembles of the prepare thread, which has new ones from when it reads the manifest. */
  let prepared = [...served];
  const calls: string[] = [];
  const results: string[] = [];
  const followed: string[] = [];
  const lines: { level: number; msg: string; reason?: string }[] = [];
  const jobs = Promise.withResolvers<void>();
  const watch = new ManifestWatch({
    file: join(folderOf({ "ensembles.json": {} }), "ensembles.json"),
    changes: {
      readManifest: () => {
        const { manifest: ids, failure } = state;
        if (failure) return Promise.reject(failure);
        const added = ids.filter((id) => !prepared.includes(id));
        const removed = prepared.filter((id) => !ids.includes(id));
        prepared.push(...added);
        return Promise.resolve({
          type: "manifestRead",
          ids,
          text: ids.join(),
          added: { ids: added, entries: JSON.stringify(added) },
          removed,
        });
      },
      add: ({ ids }) => {
        calls.push(`add ${ids.join()}`);
        state.loaded.push(...ids);
        return Promise.resolve([]);
      },
      hide: (ids) => calls.push(`hide ${ids.join()}`),
      remove: (ids) => {
        calls.push(`remove ${ids.join()}`);
        state.loaded = state.loaded.filter((id) => !ids.includes(id));
        prepared = prepared.filter((id) => !ids.includes(id));
        return Promise.resolve();
      },
    },
    serve: () => {
      calls.push("serve");
      return jobs.promise;
    },
    onFollowed: (text) => followed.push(text),
    log: pino({}, { write: (line) => lines.push(JSON.parse(line) as (typeof lines)[number]) }),
    metrics: { manifestRead: (result) => results.push(result) },
  });
  watches.push(watch);
  return { watch, state, calls, results, followed, lines, endJobs: jobs.resolve };
}

test("what is new is added before what is gone is hidden, and that is removed when its jobs have ended", async () => {
  const { watch, state, calls, results, followed, endJobs } = watchOf(["a", "b"]);
  state.manifest = ["b", "c"];
  await watch.read();
  expect(followed).toEqual(["b,c"]);
  expect(calls).toEqual(["add c", "hide a", "serve"]);
  // The last jobs of "a" still run.
  await watch.read();
  expect(calls).toHaveLength(3);
  endJobs();
  await expect.poll(() => calls.at(-1)).toBe("remove a");
  await expect.poll(() => results).toEqual(["applied", "unchanged", "unchanged"]);
});

test("an ensemble that comes back while its last jobs run is added when they have ended, and others at once", async () => {
  const { watch, state, calls, results, endJobs } = watchOf(["a", "b"]);
  state.manifest = ["a"];
  await watch.read();
  state.manifest = ["a", "b", "c"];
  await watch.read();
  expect(calls).toEqual(["hide b", "serve", "add c", "hide ", "serve"]);
  endJobs();
  await expect.poll(() => calls.slice(5)).toEqual(["remove b", "add b", "hide ", "serve"]);
  expect(state.loaded).toEqual(["a", "c", "b"]);
  expect(results).toEqual(["applied", "applied", "applied"]);
});

test("a manifest that is refused while last jobs run is read again when they have ended", async () => {
  const { watch, state, calls, results, endJobs } = watchOf(["a", "b"]);
  state.manifest = ["a"];
  await watch.read();
  state.failure = new ManifestNotFollowed("restart needed", true);
  await watch.read();
  state.failure = null;
  state.manifest = ["a", "b"];
  endJobs();
  await expect.poll(() => results).toEqual(["applied", "refused", "applied"]);
  expect(calls.slice(2)).toEqual(["remove b", "add b", "hide ", "serve"]);
});

test.runIf(!process.stdin.isTTY && !process.stdout.isTTY)(
  "a signal has it read; what is refused and what fails is logged, counted and changes nothing",
  async () => {
    const { state, calls, results, followed, lines } = watchOf(["a"]);
    state.failure = new ManifestNotFollowed("restart needed", true);
    process.emit("SIGHUP");
    await expect.poll(() => results).toEqual(["refused"]);
    state.failure = new ManifestNotFollowed("it is truncated", false);
    process.emit("SIGHUP");
    await expect.poll(() => results).toEqual(["refused", "failed"]);
    expect(calls).toEqual([]);
    expect(followed).toEqual([]);
    expect(lines.map(({ level, reason }) => [level, reason])).toEqual([
      [50, "restart needed"],
      [50, "it is truncated"],
    ]);
  },
);
