/** Which adapters each graph of a manifest holds, and the decoders that use them. */
import { AdapterDecoder } from "../decoder/adapter-decoder.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { ExternalCacheDecoder } from "../decoder/external-cache-decoder.ts";
import { hasExactRows } from "../graph/row-probe.ts";
import { adaptedFingerprint, adapterFingerprint } from "./fingerprint.ts";
import { findGraph, hasGraph } from "./graph-files.ts";
import type { Manifest, ModelEntry } from "./manifest.ts";

export class AdapterHosts {
  /** Graph file -> folders of adapters; a folder's place is its index in the graph. Their order does not depend on the manifest's. */
  readonly #folders: ReadonlyMap<string, readonly string[]>;
  readonly #fingerprints = new Map<string, string>();

  constructor({ ensembles }: Manifest) {
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

  /** The folders of the adapters that a model's graph holds. */
  foldersOf(entry: ModelEntry): readonly string[] {
    return this.#folders.size === 0 ? [] : (this.#folders.get(findGraph(entry)) ?? []);
  }

  /** The decoder of an entry with an adapter. @param host that of the entry without it */
  async adapt(host: Decoder, entry: ModelEntry): Promise<Decoder> {
    // Graphs that run otherwise are refused when they are loaded with adapters.
    if (!(host instanceof ExternalCacheDecoder)) throw new Error("it can have no adapters");
    const adapter = this.foldersOf(entry).indexOf(entry.adapter!);
    const decoder = new AdapterDecoder(host, adapter);
    // The products with A and B have activations that are not rounded, and whose sums may depend on the run.
    const exactRows = host.hasExactRows && (await hasExactRows(decoder as Decoder));
    return new AdapterDecoder(host, adapter, exactRows) as Decoder;
  }
}
