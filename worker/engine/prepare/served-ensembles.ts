/** The ensembles whose prompts the prepare thread tokenizes, and their change when the manifest changes. */
import {
  ensembleError,
  loadTokenizers,
  type EnsembleTokenizers,
} from "../model/ensemble-tokenizers.ts";
import { manifestChange, type ManifestChange } from "../model/manifest-change.ts";
import type { EnsembleEntry, Manifest } from "../model/manifest.ts";
import type { SharedTokenizers } from "../model/tokenizer.ts";

export class ServedEnsembles {
  /** Those of the start, whose models are loaded. */
  readonly #loaded: readonly EnsembleEntry[];
  readonly #entries = new Map<string, EnsembleEntry>();
  readonly #tokenizers = new Map<string, EnsembleTokenizers>();
  readonly #shared: SharedTokenizers = new Map();

  /** @throws Error with the ensemble's id and the reason if its tokenizers cannot be loaded */
  constructor({ ensembles }: Manifest) {
    this.#loaded = ensembles;
    this.#add(ensembles);
  }

  /** By the id of the ensemble. */
  get tokenizers(): ReadonlyMap<string, EnsembleTokenizers> {
    return this.#tokenizers;
  }

  /**
   * Adds the ensembles that only the new manifest has. Those that it lacks stay until `remove`, because their jobs run on.
   * @throws Error with the reason if the worker must be started again, or if an ensemble cannot be served; nothing has changed then
   */
  follow(manifest: Manifest): ManifestChange & { readonly ids: readonly string[] } {
    const change = manifestChange(this.#entries, this.#loaded, manifest);
    this.#add(change.added);
    return { ...change, ids: manifest.ensembles.map(({ id }) => id) };
  }

  remove(ids: readonly string[]): void {
    for (const id of ids) {
      this.#entries.delete(id);
      this.#tokenizers.delete(id);
    }
  }

  #add(entries: readonly EnsembleEntry[]): void {
    const loaded = entries.map((entry) => {
      try {
        return [entry, loadTokenizers(entry, this.#shared)] as const;
      } catch (error) {
        throw ensembleError(entry.id, error);
      }
    });
    for (const [entry, tokenizers] of loaded) {
      this.#entries.set(entry.id, entry);
      this.#tokenizers.set(entry.id, tokenizers);
    }
  }
}
