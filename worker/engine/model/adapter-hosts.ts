/** Which adapters each graph holds, the decoders that use them, and the change of adapters while sequences run. */
import { AdapterDecoder } from "../decoder/adapter-decoder.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { ExternalCacheDecoder } from "../decoder/external-cache-decoder.ts";
import { hasExactRows } from "../graph/row-probe.ts";
import { adaptedFingerprint, adapterFingerprint } from "./fingerprint.ts";
import { findGraph, hasGraph } from "./graph-files.ts";
import {
  startHostSession,
  type HostAdapter,
  type HostRequest,
  type HostSession,
} from "./host-session.ts";
import { withoutAdapter, type EnsembleEntry, type ModelEntry } from "./manifest.ts";

/** An adapter of a decoder's graph. */
interface NumberedAdapter extends HostAdapter {
  /** It stays the same while the adapter's index in the graph changes. */
  readonly number: number;
  readonly decoder: Decoder;
}

/** A decoder that has adapters, or gets some. */
interface Host {
  readonly decoder: ExternalCacheDecoder;
  readonly entry: ModelEntry;
  adapters: readonly NumberedAdapter[];
  nextNumber: number;
  /** The graph with other adapters that is loaded and not used yet. */
  prepared: PreparedGraph | null;
}

interface PreparedGraph {
  readonly session: HostSession["session"];
  /** In the order of the graph. */
  readonly adapters: readonly NumberedAdapter[];
}

export class AdapterHosts {
  /** Graph file -> folders of the adapters with which it is loaded; their order does not depend on the manifest's. */
  readonly #folders: ReadonlyMap<string, readonly string[]>;
  readonly #fingerprints = new Map<string, string>();
  readonly #hosts = new Map<ExternalCacheDecoder, Host>();
  readonly #options: HostRequest["options"];

  constructor(ensembles: readonly EnsembleEntry[], options: HostRequest["options"]) {
    this.#options = options;
    const experts = ensembles.flatMap(({ expert }) =>
      // A graph that is missing is reported when it is loaded.
      expert.adapter === undefined || !hasGraph(expert)
        ? []
        : [{ graph: findGraph(expert), folder: expert.adapter }],
    );
    this.#folders = new Map(
      Array.from(
        Map.groupBy(experts, ({ graph }) => graph),
        ([graph, group]) => [graph, this.#sorted(group.map(({ folder }) => folder))] as const,
      ),
    );
  }

  #sorted(folders: readonly string[]): string[] {
    for (const folder of folders) this.#fingerprints.set(folder, adapterFingerprint(folder));
    const place = (folder: string) => this.#fingerprints.get(folder)!;
    return [...new Set(folders)].toSorted((a, b) => (place(a) < place(b) ? -1 : 1));
  }

  /** The fingerprint of an entry with an adapter. @param model that of the entry without it */
  fingerprintOf(entry: ModelEntry, model: string): string {
    return adaptedFingerprint(model, this.#fingerprints.get(entry.adapter!)!);
  }

  /** The folders of the adapters with which a model's graph is loaded. */
  foldersOf(entry: ModelEntry): readonly string[] {
    return this.#folders.size === 0 ? [] : (this.#folders.get(findGraph(entry)) ?? []);
  }

  /** The decoder of an entry with an adapter. @param decoder that of the entry without it */
  async adapt(decoder: Decoder, entry: ModelEntry): Promise<Decoder> {
    const host = this.#hostOf(decoder, entry);
    const folder = entry.adapter!;
    const all = [...host.adapters, ...(host.prepared?.adapters ?? [])];
    const known = all.find((adapter) => adapter.folder === folder);
    if (known) return known.decoder;
    const number = this.foldersOf(entry).indexOf(folder);
    // The products with A and B have activations that are not rounded, and whose sums may depend on the run.
    const exactRows =
      decoder.hasExactRows &&
      (await hasExactRows(new AdapterDecoder(host.decoder, number) as Decoder));
    const fingerprint = this.#fingerprints.get(folder)!;
    const adapted = new AdapterDecoder(host.decoder, number, exactRows) as Decoder;
    host.adapters = [
      ...host.adapters,
      { folder, fingerprint, number, exactRows, decoder: adapted },
    ];
    host.nextNumber = Math.max(host.nextNumber, number + 1);
    return adapted;
  }

  /** @throws Error if the decoder's graph can hold no adapters */
  #hostOf(decoder: Decoder, adapted: ModelEntry): Host {
    const entry = withoutAdapter(adapted);
    if (!(decoder instanceof ExternalCacheDecoder)) {
      throw new Error(`${entry.path}: it can have no adapters: ${decoder.fallbackReason}`);
    }
    const fresh = { decoder, entry, adapters: [], nextNumber: 0, prepared: null };
    const host = this.#hosts.get(decoder) ?? fresh;
    this.#hosts.set(decoder, host);
    return host;
  }

  /**
   * Loads the graph of a decoder again, with its adapters and these, on a thread of its own; `usePrepared` changes to it.
   * @throws Error with the reason if that is not possible
   */
  async prepareWith(decoder: Decoder, entries: readonly ModelEntry[]): Promise<void> {
    const host = this.#hostOf(decoder, entries[0]!);
    const now = host.adapters.map(({ folder }) => folder);
    const folders = [...new Set([...now, ...entries.map(({ adapter }) => adapter!)])];
    if (folders.length > now.length) await this.#prepare(host, folders);
  }

  /**
   * Loads graphs without the adapters that no ensemble has any more, one after the other, and changes to each.
   * @param used decoder of a model -> folders of the adapters that it keeps
   * @throws Error with the reason; graphs that are not loaded yet keep their adapters then
   */
  async dropUnused(used: ReadonlyMap<Decoder, ReadonlySet<string>>): Promise<void> {
    for (const host of this.#hosts.values()) {
      const folders = host.adapters.map(({ folder }) => folder);
      const kept = folders.filter((folder) => used.get(host.decoder as Decoder)?.has(folder));
      if (kept.length === folders.length) continue;
      await this.#prepare(host, kept);
      await this.#use(host);
    }
  }

  async #prepare(host: Host, folders: readonly string[]): Promise<void> {
    const { entry, adapters, decoder } = host;
    const known = adapters.map(({ folder, fingerprint, exactRows }) => ({
      folder,
      fingerprint,
      exactRows,
    }));
    const { cacheBytesToMove } = decoder;
    const request = { entry, folders, known, cacheBytesToMove, options: this.#options };
    const { session, adapters: loaded } = await startHostSession(request);
    const numbered = loaded.map((adapter) => {
      this.#fingerprints.set(adapter.folder, adapter.fingerprint);
      const before = adapters.find(({ folder }) => folder === adapter.folder);
      if (before) return before;
      const number = host.nextNumber++;
      const view = new AdapterDecoder(decoder, number, adapter.exactRows) as Decoder;
      return { ...adapter, number, decoder: view };
    });
    host.prepared = { session, adapters: numbered };
  }

  /** Lets decoders run the graphs that were prepared for them. Their sequences go on. */
  async usePrepared(): Promise<void> {
    for (const host of this.#hosts.values()) await this.#use(host);
  }

  async #use(host: Host): Promise<void> {
    if (host.prepared === null) return;
    const { session, adapters } = host.prepared;
    host.adapters = adapters;
    host.prepared = null;
    const indexes = new Map(adapters.map(({ number }, index) => [number, index]));
    await host.decoder.replaceSession(session, indexes);
  }

  /** Drops graphs that were prepared and will not be used. */
  async dropPrepared(): Promise<void> {
    for (const host of this.#hosts.values()) {
      const { prepared } = host;
      host.prepared = null;
      await prepared?.session.release();
    }
  }

  /** Ends the threads, when no more sequences run. */
  async close(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map(({ decoder }) => decoder.closeThread()));
  }
}
