/** Loads the ensembles of a manifest, and changes which are there while the engine runs. */
import { setImmediate } from "node:timers/promises";
import type { LoadingProgress } from "../../engine-client/loading-progress.ts";
import type { Decoder } from "../decoder/decoder.ts";
import type { SessionOptions } from "../decoder/session.ts";
import { adapterFolderOf } from "../graph/adapter-error.ts";
import { AdapterHosts } from "./adapter-hosts.ts";
import { assembleEnsemble, type Ensemble, type LoadedModel } from "./ensemble.ts";
import { ensembleError, type EnsembleTokenizers } from "./ensemble-tokenizers.ts";
import { modelFingerprint } from "./fingerprint.ts";
import type { GraphSource } from "./load-graph.ts";
import { LoadingMeter } from "./loading-progress.ts";
import { readAdapters } from "./lora-adapter.ts";
import {
  withoutAdapter,
  type EnsembleEntry,
  type Manifest,
  type ModelEntry,
  type RemoteEntry,
} from "./manifest.ts";
import { modelKey } from "./manifest-change.ts";
import { inspectModel, loadDecoder } from "./model-folder.ts";
import { checkProvider } from "./provider.ts";
import type { SharedTokenizers } from "./tokenizer.ts";

export interface LoadOptions extends SessionOptions, Pick<GraphSource, "preparedFolder"> {
  readonly onProgress?: (progress: LoadingProgress) => void;
}

/**
 * Loads every ensemble of a manifest, by id. A model that several ensembles share is loaded once.
 * @throws Error with the ensemble's id and the reason if its models do not fit together or cannot be loaded
 */
export async function loadEnsembles(
  manifest: Manifest,
  options: LoadOptions,
): Promise<ReadonlyMap<string, Ensemble>> {
  return (await LoadedEnsembles.load(manifest, options)).ensembles;
}

export class LoadedEnsembles {
  readonly #ensembles = new Map<string, Ensemble>();
  readonly #entries = new Map<string, EnsembleEntry>();
  readonly #options: Omit<LoadOptions, "onProgress">;
  /** That of the start. */
  readonly #manifest: Manifest;
  readonly #hosts: AdapterHosts;
  readonly #meter: LoadingMeter;
  /** By what a model is, so that the same one in two folders is loaded once. */
  readonly #models = new Map<string, Promise<LoadedModel>>();
  /** By what the manifest says of a model. */
  readonly #modelsByEntry = new Map<string, LoadedModel>();
  readonly #shared: SharedTokenizers = new Map();

  private constructor(manifest: Manifest, { onProgress = () => {}, ...options }: LoadOptions) {
    this.#options = options;
    this.#manifest = manifest;
    try {
      this.#hosts = new AdapterHosts(manifest.ensembles, options);
    } catch (error) {
      throw this.#errorOf(error);
    }
    this.#meter = new LoadingMeter(manifest, onProgress);
  }

  /** @throws Error as `loadEnsembles` */
  static async load(manifest: Manifest, options: LoadOptions): Promise<LoadedEnsembles> {
    await checkProvider(options.executionProvider ?? "cpu");
    const loaded = new LoadedEnsembles(manifest, options);
    const load = (model: ModelEntry) => loaded.#load(model);
    for (const entry of manifest.ensembles) {
      try {
        loaded.#set(entry, await loaded.#assemble(entry, load));
      } catch (error) {
        throw loaded.#errorOf(error, entry.id);
      }
    }
    return loaded;
  }

  get ensembles(): ReadonlyMap<string, Ensemble> {
    return this.#ensembles;
  }

  /**
   * Adds ensembles whose models are loaded, except adapters: graphs that get new adapters are loaded again, each on a thread of its own,
   * and sequences that run go on with them.
   * @throws Error with the ensemble's id and the reason; nothing has changed then
   */
  async add(entries: readonly EnsembleEntry[]): Promise<Ensemble[]> {
    const adapted = entries.filter(({ expert }) => expert.adapter !== undefined);
    const known = adapted.map(({ id, expert }) => ({
      id,
      expert,
      host: this.#knownOf(id, withoutAdapter(expert)).decoder,
    }));
    const ensembles: Ensemble[] = [];
    try {
      for (const [host, group] of Map.groupBy(known, (each) => each.host)) {
        const experts = group.map(({ expert }) => expert);
        const ids = group.map(({ id }) => id).join(", ");
        await orEnsembleError(ids, () => this.#hosts.prepareWith(host, experts));
      }
      for (const entry of entries) {
        const load = async (model: ModelEntry) => this.#adapted(entry.id, model);
        ensembles.push(await orEnsembleError(entry.id, () => this.#assemble(entry, load)));
        // Reading tokenizers takes up to a second for each ensemble: steps of running sequences come between.
        await setImmediate();
      }
    } catch (error) {
      await this.#hosts.dropPrepared();
      throw error;
    }
    await this.#hosts.usePrepared();
    for (const [i, entry] of entries.entries()) this.#set(entry, ensembles[i]!);
    return ensembles;
  }

  /** Removes ensembles whose sequences have ended. Their models stay loaded, except adapters. @throws Error if adapters cannot be removed */
  async remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      this.#ensembles.delete(id);
      this.#entries.delete(id);
    }
    const adapted = [...this.#entries.values()].flatMap(({ id, expert }) =>
      expert.adapter === undefined
        ? []
        : [{ decoder: this.#knownOf(id, expert).decoder, folder: expert.adapter }],
    );
    // By decoder, because copies of a model in several folders share one.
    const used = Map.groupBy(adapted, ({ decoder }) => decoder);
    await this.#hosts.dropUnused(
      new Map(
        Array.from(
          used,
          ([decoder, group]) => [decoder, new Set(group.map(({ folder }) => folder))] as const,
        ),
      ),
    );
  }

  /** Ends the threads of graphs, when no more sequences run. */
  close(): Promise<void> {
    return this.#hosts.close();
  }

  #set(entry: EnsembleEntry, ensemble: Ensemble): void {
    this.#ensembles.set(entry.id, ensemble);
    this.#entries.set(entry.id, entry);
  }

  #assemble(
    entry: EnsembleEntry,
    load: (model: ModelEntry) => Promise<LoadedModel>,
  ): Promise<Ensemble> {
    const { executionProvider } = this.#options;
    const shared = this.#shared;
    const loadBase = (base: RemoteEntry, tokenizers: EnsembleTokenizers) =>
      this.#loadBase(base, tokenizers);
    return assembleEnsemble(entry, { load, loadBase, shared, executionProvider });
  }

  /** With the ids of the ensembles that have the adapter of the error: the ensemble that loads its graph may be another one. */
  #errorOf(error: unknown, id = ""): unknown {
    const folder = adapterFolderOf(error);
    const ids = this.#manifest.ensembles.flatMap((entry) =>
      folder !== null && entry.expert.adapter === folder ? [entry.id] : [],
    );
    const named = ids.join(", ") || id;
    return named === "" ? error : ensembleError(named, error);
  }

  #loadBase(entry: RemoteEntry, tokenizers: EnsembleTokenizers): Promise<LoadedModel> {
    const key = modelKey(entry);
    const model = this.#models.get(key) ?? loadRemoteBase(entry, tokenizers);
    this.#models.set(key, model);
    return model;
  }

  async #load(entry: ModelEntry): Promise<LoadedModel> {
    if (entry.adapter !== undefined) {
      return this.#adapt(await this.#load(withoutAdapter(entry)), entry);
    }
    const facts = await inspectModel(entry);
    const fingerprint = modelFingerprint(entry, facts);
    const adapters = this.#hosts.foldersOf(entry);
    const key = [fingerprint, ...adapters].join("\n");
    const known = { ...facts, fingerprint, adapters };
    this.#meter.begin(entry);
    const onPrepare = () => this.#meter.prepare(entry);
    const model = this.#models.get(key) ?? loadModel(entry, { ...this.#options, onPrepare }, known);
    this.#models.set(key, model);
    const loaded = await model;
    this.#modelsByEntry.set(modelKey(entry), loaded);
    this.#meter.end(entry);
    return loaded;
  }

  /** A model that is loaded. @param id of the ensemble that needs it @throws Error if it is not */
  #knownOf(id: string, entry: ModelEntry): LoadedModel {
    const model = this.#modelsByEntry.get(modelKey(entry));
    if (model) return model;
    throw ensembleError(id, new Error(`${entry.path} is not loaded: restart needed`));
  }

  async #adapted(id: string, entry: ModelEntry): Promise<LoadedModel> {
    const host = this.#knownOf(id, withoutAdapter(entry));
    return entry.adapter === undefined ? host : this.#adapt(host, entry);
  }

  /** A model with an adapter. Ensembles with the same one have the same decoder, so that pairs of both run it once. */
  async #adapt(host: LoadedModel, entry: ModelEntry): Promise<LoadedModel> {
    const fingerprint = this.#hosts.fingerprintOf(entry, host.fingerprint);
    const decoder = await this.#hosts.adapt(host.decoder, entry);
    return { ...host, decoder, fingerprint };
  }
}

async function orEnsembleError<T>(id: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw ensembleError(id, error);
  }
}

async function loadModel(
  { path, dtype, file }: ModelEntry,
  options: Omit<LoadOptions, "onProgress"> & Pick<GraphSource, "onPrepare">,
  {
    fingerprint,
    quantizesActivations,
    adapters: folders,
  }: Omit<LoadedModel, "decoder"> & { readonly adapters: readonly string[] },
): Promise<LoadedModel> {
  const adapters = readAdapters(folders).map(({ modules }) => modules);
  const decoder: Decoder = await loadDecoder(path, { dtype, file, adapters, ...options });
  return { decoder, fingerprint, quantizesActivations };
}

async function loadRemoteBase(
  entry: RemoteEntry,
  tokenizers: EnsembleTokenizers,
): Promise<LoadedModel> {
  // Its HTTP client takes 0.1 s of processor time to load, which most workers do not need.
  const { loadRemote, remoteFingerprint } = await import("./load-remote.ts");
  const decoder = await loadRemote(entry, tokenizers);
  const fingerprint = remoteFingerprint(entry);
  return { decoder, fingerprint, quantizesActivations: false, remote: decoder.base };
}
