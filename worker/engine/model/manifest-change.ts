/** The difference between two manifests, and whether a worker can follow it without a restart. */
import { isDeepStrictEqual } from "node:util";
import {
  isRemote,
  type EnsembleEntry,
  type Manifest,
  type ModelEntry,
  type RemoteEntry,
} from "./manifest.ts";

export interface ManifestChange {
  readonly added: readonly EnsembleEntry[];
  /** Ids of ensembles that the new manifest does not have. */
  readonly removed: readonly string[];
}

/** The fields of an entry that decide which graph is loaded, or which server is called. */
export function modelKey(entry: ModelEntry | RemoteEntry): string {
  if (isRemote(entry)) return JSON.stringify(entry);
  const { path, dtype, file } = entry;
  return JSON.stringify([path, dtype, file ?? null]);
}

/**
 * @param served the ensembles that are served now
 * @param loaded those with which the worker has started: their models are loaded
 * @throws Error with the reason if the worker must be started again
 */
export function manifestChange(
  served: ReadonlyMap<string, EnsembleEntry>,
  loaded: readonly EnsembleEntry[],
  { ensembles }: Manifest,
): ManifestChange {
  const models = new Set(
    loaded.flatMap(({ base, expert, antiexpert }) => [base, expert, antiexpert].map(modelKey)),
  );
  const added: EnsembleEntry[] = [];
  for (const entry of ensembles) {
    const before = served.get(entry.id);
    if (before === undefined) {
      checkLoaded(entry, models);
      added.push(entry);
    } else if (!isDeepStrictEqual(before, entry)) {
      const fields = Object.keys({ ...before, ...entry }) as (keyof EnsembleEntry)[];
      const changed = fields.filter((field) => !isDeepStrictEqual(before[field], entry[field]));
      throw new Error(
        `Ensemble ${entry.id}: restart needed, because ${changed.join(", ")} changed. Only ensembles with an id of their own can be added`,
      );
    }
  }
  const ids = new Set(ensembles.map(({ id }) => id));
  return { added, removed: [...served.keys()].filter((id) => !ids.has(id)) };
}

function checkLoaded(entry: EnsembleEntry, models: ReadonlySet<string>): void {
  for (const role of ["base", "expert", "antiexpert"] as const) {
    const model = entry[role];
    if (models.has(modelKey(model))) continue;
    const name = isRemote(model) ? model.url : model.path;
    throw new Error(
      `Ensemble ${entry.id}: restart needed, because the model of its ${role} (${name}) is not loaded. Only adapters are loaded while a worker runs`,
    );
  }
}
