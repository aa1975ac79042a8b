/** Messages of a change of the manifest while a worker runs. */
import type { ModelCard } from "../../shared/workers/model-card.ts";

/** From the prepare thread: what the manifest, read again, changes. */
export interface ManifestRead {
  readonly type: "manifestRead";
  /** All its ensembles. */
  readonly ids: readonly string[];
  readonly text: string;
  /** Those that are new; their entries are JSON. */
  readonly added: { readonly ids: readonly string[]; readonly entries: string };
  /** Those that it lacks. */
  readonly removed: readonly string[];
}

/** From the prepare thread: it has changed nothing. */
export interface ManifestRefused {
  readonly type: "manifestRefused";
  readonly reason: string;
}

/** To the engine thread, with the entries of `ManifestRead`. */
export interface AddEnsembles {
  readonly type: "add";
  readonly entries: string;
}

/** To both threads. Nothing of these ensembles runs. */
export interface RemoveEnsembles {
  readonly type: "remove";
  readonly ids: readonly string[];
}

/** From the engine thread: the reply to both messages. */
export interface EnsemblesChanged {
  readonly type: "changed";
  /** Of the added ensembles. */
  readonly cards: readonly ModelCard[];
  readonly warnings: readonly string[];
}

/** From the engine thread. Ensembles that were to be added are not there; of those that were to be removed only the adapters still are. */
export interface ChangeFailed {
  readonly type: "changeFailed";
  readonly reason: string;
}
