/** Gets the repositories of a manifest that are not complete in the cache. What is complete needs no hub. */
import type { LoadingProgress } from "../../engine-client/loading-progress.ts";
import type { Dtype } from "../model/graph-files.ts";
import { snapshotFolder, toPinnedRepository } from "../model/hub-cache.ts";
import { inspectModel } from "../model/model-folder.ts";
import type { Hub, RemoteFile } from "./hub.ts";
import { pull } from "./pull.ts";

/** Progress within a file is reported at most this often. */
const REPORT_MS = 5_000;

/** A model of a manifest that is in a repository. */
export interface RepositoryEntry {
  /** ORG/NAME@COMMIT */
  readonly repo: string;
  readonly dtype: Dtype;
  /** Graph file instead of that of the dtype. */
  readonly file?: string | undefined;
}

export interface PullMissingOptions {
  readonly hub: Hub;
  readonly cache: string;
  readonly onProgress: (progress: LoadingProgress) => void;
}

/** @throws HubError */
export async function pullMissing(
  entries: readonly RepositoryEntry[],
  { hub, cache, onProgress }: PullMissingOptions,
): Promise<void> {
  const missing: RepositoryEntry[] = [];
  for (const entry of entries) if (!(await isComplete(entry, cache))) missing.push(entry);
  for (const [repo, of] of Map.groupBy(missing, ({ repo }) => repo)) {
    const report = reporter(repo, onProgress);
    await pull(repo, {
      hub,
      cache,
      dtypes: of.flatMap(({ dtype, file }) => (file === undefined ? [dtype] : [])),
      graphs: of.flatMap(({ file }) => file ?? []),
      onPlan: report.plan,
      onProgress: report.progress,
    });
  }
}

/** Whether graph and weights are there; they come last. */
async function isComplete({ repo, dtype, file }: RepositoryEntry, cache: string): Promise<boolean> {
  const path = snapshotFolder(cache, toPinnedRepository(repo));
  return inspectModel({ path, dtype, file }).then(
    () => true,
    () => false,
  );
}

/** Reports each file at its end, and within a file now and then. */
function reporter(model: string, onProgress: (progress: LoadingProgress) => void) {
  const planned = new Map<string, number>();
  const arrived = new Map<string, number>();
  let reportedMs = 0;
  const sum = (sizes: ReadonlyMap<string, number>) =>
    [...sizes.values()].reduce((total, bytes) => total + bytes, 0);
  return {
    plan: (files: readonly RemoteFile[]) => {
      for (const { path, size } of files) planned.set(path, size);
    },
    progress: ({ path, size }: RemoteFile, bytes: number) => {
      planned.set(path, size);
      arrived.set(path, bytes);
      if (bytes < size && performance.now() - reportedMs < REPORT_MS) return;
      reportedMs = performance.now();
      const loaded = [...arrived].filter(([file, count]) => count === planned.get(file)).length;
      const counts = { loaded, of: planned.size, bytes: sum(arrived), bytesOf: sum(planned) };
      onProgress({ stage: "pull", ...counts, model });
    },
  };
}
