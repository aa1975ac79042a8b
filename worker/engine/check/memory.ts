/** Estimates the memory that a worker needs for a manifest, and the longest job that its KV caches hold. */
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import { stackedValues } from "../graph/adapter-columns.ts";
import type { AdapterSizes } from "../graph/adapter-targets.ts";
import { checkAdapters } from "../model/lora-adapter.ts";
import { ROLES, type PerRole } from "../model/ensemble-tokenizers.ts";
import { adapterMemory, graphMemory } from "../model/memory-need.ts";
import type { SharedTokenizers } from "../model/tokenizer.ts";
import type { EnsembleReport, MemoryReport, ModelReport, Problem } from "./report.ts";

/** A worker's settings, and the machine. */
export interface Resources {
  /** SLOTS, KV_CACHE_MIB and PREFIX_CACHE_MIB (worker/env.ts). */
  readonly slots: number;
  readonly kvCacheMib: number;
  readonly prefixCacheMib: number;
  readonly memoryBytes: number;
  /** PREPARED_FOLDER; null or absent for none. */
  readonly preparedFolder?: string | null;
  /** EXECUTION_PROVIDER; "cpu" if absent. */
  readonly executionProvider?: ExecutionProvider;
}

const MIB = 2 ** 20;
/** Heap of a tokenizer for each token of its vocabulary: 142 MiB for 262,144. The engine and the prepare thread have one each. */
const TOKENIZER_BYTES = 2 * 568;
/** Tokens of a cache are allocated in blocks of this many (decoder/kv-cache.ts). */
const BLOCK_TOKENS = 64;

export function checkMemory(
  ensembles: readonly EnsembleReport[],
  shared: SharedTokenizers,
  { slots, kvCacheMib, prefixCacheMib, memoryBytes }: Resources,
): { memory: MemoryReport; problems: Problem[] } {
  const graphs = new Map<string, number>();
  let caches = 0;
  for (const { models, contextTokens } of ensembles) {
    for (const { graph } of ROLES.map((role) => models[role])) {
      if (graph) graphs.set(graph.file, graphMemory(graph));
    }
    const perToken = bytesPerToken(models) ?? 0;
    const tokens = contextTokens ?? Number.MAX_SAFE_INTEGER;
    caches = Math.max(caches, slots * tokens * perToken);
  }
  const { values, problems } = adapterValues(ensembles);
  const adapters = adapterMemory(values);
  const weights = Math.ceil([...graphs.values()].reduce((sum, each) => sum + each, adapters));
  const vocabularies = [...shared.values()].map((tokenizer) => tokenizer.get_vocab(true).size);
  const tokenizers = vocabularies.reduce((sum, size) => sum + size * TOKENIZER_BYTES, 0);
  const bounded = Math.min(caches, kvCacheMib * MIB) + (caches > 0 ? prefixCacheMib * MIB : 0);
  const needed = weights + bounded + tokenizers;
  const memory = { weights, caches: bounded, tokenizers, needed, available: memoryBytes };
  if (needed <= memoryBytes) return { memory, problems };
  const [need, have] = [needed, memoryBytes].map((bytes) => Math.ceil(bytes / MIB));
  const message = `a worker needs about ${need} MiB of memory, and this machine has ${have} MiB: take a smaller dtype, or lower KV_CACHE_MIB`;
  problems.push({ severity: "error", ensemble: null, role: null, message });
  return { memory, problems };
}

/** The values in the stacked matrices of all adapters, each once in each graph, and the adapters with which a graph has too many. */
function adapterValues(ensembles: readonly EnsembleReport[]): {
  values: number;
  problems: Problem[];
} {
  const graphs = new Map<string, Map<string, AdapterSizes>>();
  const problems: Problem[] = [];
  for (const { id, models } of ensembles) {
    const { graph, adapter } = models.expert;
    if (!graph || !adapter) continue;
    const own = graphs.get(graph.file) ?? new Map<string, AdapterSizes>();
    graphs.set(graph.file, own);
    if (own.has(adapter.folder)) continue;
    own.set(adapter.folder, new Map(Object.entries(adapter.sizes)));
    try {
      checkAdapters([...own.values()]);
    } catch (error) {
      const { message } = error as Error;
      problems.push({ severity: "error", ensemble: id, role: "expert", message });
    }
  }
  const ofAll = Array.from(graphs.values(), (own) => stackedValues([...own.values()]));
  return { values: ofAll.reduce((sum, values) => sum + values, 0), problems };
}

/** Tokens of the longest job that fits KV_CACHE_MIB when it runs alone; null if the graphs are not known. */
export function jobTokensMax(
  models: PerRole<ModelReport>,
  { kvCacheMib }: Resources,
): number | null {
  const perToken = bytesPerToken(models);
  if (!perToken) return null;
  return Math.floor((kvCacheMib * MIB) / perToken / BLOCK_TOKENS) * BLOCK_TOKENS;
}

/** KV cache of one token in all models; null if none of the graphs is known. */
function bytesPerToken(models: PerRole<ModelReport>): number | null {
  const graphs = ROLES.flatMap((role) => models[role].graph ?? []);
  if (graphs.length === 0) return null;
  // A graph that runs as exported has its old cache and its new one at once.
  return graphs.reduce(
    (sum, { cacheBytesPerToken, form }) =>
      sum + cacheBytesPerToken * (form.variant === "original" ? 2 : 1),
    0,
  );
}
