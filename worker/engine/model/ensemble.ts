/**
 * Loads ensembles: three models, their tokenizers, and the values that the engine needs from them. This is the folder's main
 * file. The folder turns model folders into decoders, tokenizers and checked ensembles. It knows nothing of queues,
 * scheduling or the decode loop. An ensemble whose models do not fit together is refused when the worker starts, with the
 * reason, and not in the middle of a generation.
 */
import type { ModelCard } from "../../../shared/workers/model-card.ts";
import type { Constraint } from "../decode/sampler.ts";
import type { PreparedGrammar } from "../../engine-client/messages.ts";
import { GrammarCache } from "../grammar/grammar-cache.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { AdapterHosts } from "./adapter-hosts.ts";
import { ensembleFingerprint, modelFingerprint } from "./fingerprint.ts";
import type { GraphFacts } from "../graph/inspect.ts";
import { inspectModel, loadDecoder } from "./model-folder.ts";
import {
  ensembleError,
  loadTokenizers,
  perRole,
  ROLES,
  type EnsembleTokenizers,
  type PerRole,
} from "./ensemble-tokenizers.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import {
  isRemote,
  type EnsembleEntry,
  type Manifest,
  type ModelEntry,
  type RemoteEntry,
} from "./manifest.ts";
import { readAdapters } from "./lora-adapter.ts";
import { checkProvider } from "./provider.ts";
import type { LoadingProgress } from "../../engine-client/loading-progress.ts";
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import type { GraphSource } from "./load-graph.ts";
import { LoadingMeter } from "./loading-progress.ts";
import type { SessionOptions } from "../decoder/session.ts";
import type { SharedTokenizers } from "./tokenizer.ts";

/** The three models of an ensemble. */
export interface Models extends PerRole<Decoder> {
  /** V, the size of the common vocabulary. A model may return more logits; the rest is padding and never sampled. */
  readonly vocabSize: number;
}

interface LoadedModel extends Pick<GraphFacts, "quantizesActivations"> {
  readonly decoder: Decoder;
  readonly fingerprint: string;
  readonly remote?: RemoteBase;
}

export interface Ensemble extends EnsembleTokenizers {
  readonly card: ModelCard;
  readonly models: Models;
  /** The base, if another server runs it. */
  readonly remoteBase: RemoteBase | null;
  /** Creates the constraint that makes one output match a grammar. */
  readonly constrain: (grammar: PreparedGrammar, eosIds: ReadonlySet<number>) => Constraint;
}

export interface LoadOptions extends SessionOptions, Pick<GraphSource, "preparedFolder"> {
  readonly onProgress?: (progress: LoadingProgress) => void;
}

/**
 * Loads every ensemble of a manifest, by id. A model that several ensembles share is loaded once.
 * @throws Error with the ensemble's id and the reason if its models do not fit together or cannot be loaded
 */
export async function loadEnsembles(
  manifest: Manifest,
  { onProgress = () => {}, ...options }: LoadOptions,
): Promise<Map<string, Ensemble>> {
  await checkProvider(options.executionProvider ?? "cpu");
  const meter = new LoadingMeter(manifest, onProgress);
  const loaded = new Map<string, Promise<LoadedModel>>();
  const loadBase = (entry: RemoteEntry, tokenizers: EnsembleTokenizers): Promise<LoadedModel> => {
    const key = JSON.stringify(entry);
    const model = loaded.get(key) ?? loadRemoteBase(entry, tokenizers);
    loaded.set(key, model);
    return model;
  };
  const hosts = new AdapterHosts(manifest);
  const load = async (entry: ModelEntry): Promise<LoadedModel> => {
    if (entry.adapter !== undefined) {
      const { adapter: _, ...own } = entry;
      const host = await load(own);
      const fingerprint = hosts.fingerprintOf(entry, host.fingerprint);
      const key = [fingerprint, ...hosts.foldersOf(entry)].join("\n");
      const adapt = async () => {
        const decoder = await hosts.adapt(host.decoder, entry);
        return { ...host, decoder, fingerprint };
      };
      const model = loaded.get(key) ?? adapt();
      loaded.set(key, model);
      return model;
    }
    const facts = await inspectModel(entry);
    const fingerprint = modelFingerprint(entry, facts);
    const adapters = hosts.foldersOf(entry);
    const key = [fingerprint, ...adapters].join("\n");
    const known = { ...facts, fingerprint, adapters };
    meter.begin(entry);
    const onPrepare = () => meter.prepare(entry);
    const model = loaded.get(key) ?? loadModel(entry, { ...options, onPrepare }, known);
    loaded.set(key, model);
    await model;
    meter.end(entry);
    return model;
  };
  const shared: SharedTokenizers = new Map();
  const ensembles = new Map<string, Ensemble>();
  for (const entry of manifest.ensembles) {
    try {
      ensembles.set(
        entry.id,
        await assembleEnsemble(entry, { load, loadBase, shared, ...options }),
      );
    } catch (error) {
      throw ensembleError(entry.id, error);
    }
  }
  return ensembles;
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
  const decoder = await loadDecoder(path, { dtype, file, adapters, ...options });
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

interface LoadContext {
  readonly load: (model: ModelEntry) => Promise<LoadedModel>;
  readonly loadBase: (model: RemoteEntry, tokenizers: EnsembleTokenizers) => Promise<LoadedModel>;
  readonly shared: SharedTokenizers;
  readonly executionProvider?: ExecutionProvider | undefined;
}

async function assembleEnsemble(
  entry: EnsembleEntry,
  { load, loadBase, shared, executionProvider = "cpu" }: LoadContext,
): Promise<Ensemble> {
  if (entry.alpha > entry.alphaMax) {
    throw new Error(`alpha ${entry.alpha} is greater than alphaMax ${entry.alphaMax}`);
  }
  const tokenizers = loadTokenizers(entry, shared);
  const { vocabSize } = tokenizers;
  const models = {
    base: await (isRemote(entry.base) ? loadBase(entry.base, tokenizers) : load(entry.base)),
    expert: await load(entry.expert),
    antiexpert: await load(entry.antiexpert),
  };
  for (const role of ROLES) {
    const width = models[role].decoder.logitsWidth;
    if (width !== null && width < vocabSize) {
      throw new Error(
        `${role} returns ${width} logits, fewer than the ${vocabSize} tokens of its tokenizer`,
      );
    }
  }
  const inexact = ROLES.filter((role) => {
    const { quantizesActivations, decoder } = models[role];
    return quantizesActivations && !decoder.hasExactRows;
  });
  const irreproducible = [
    ...(inexact.length > 0
      ? [
          `${inexact.join(", ")}: activations are quantized, and differences between runs decide between two levels`,
        ]
      : []),
    ...(isRemote(entry.base)
      ? [
          "base: its server may round otherwise in another batch, which decides between tokens that are nearly tied",
        ]
      : []),
    // Their results have not been compared between batches of different sizes (no test has run on a GPU).
    ...(executionProvider === "cpu" ? [] : [`it is not tested with ${executionProvider}`]),
  ];
  const slowGraphs = ROLES.flatMap((role) => {
    const reason = models[role].decoder.fallbackReason;
    return reason ? [{ role, reason }] : [];
  });
  const grammars = new GrammarCache(
    Array.from({ length: vocabSize }, (_, id) => tokenizers.tokenBytes(id)),
  );
  const remoteBase = models.base.remote ?? null;
  const unusableIds = remoteBase?.unusableIds ?? [];
  return {
    ...tokenizers,
    unusedIds: [...tokenizers.unusedIds, ...unusableIds],
    card: {
      id: entry.id,
      description: entry.description,
      createdAtMs: Date.now(),
      contextTokens: tokenizers.contextTokens,
      vocabSize,
      tokenBytesMax: tokenizers.tokenBytesMax,
      alphaDefault: entry.alpha,
      alphaMax: entry.alphaMax,
      toolFormat: tokenizers.toolFormat.format,
      base: models.base.fingerprint,
      fingerprint: ensembleFingerprint(
        ROLES.map((role) => ({ entry: entry[role], fingerprint: models[role].fingerprint })),
        entry.toolFormat,
      ),
      reproducible: irreproducible.length === 0,
      ...(slowGraphs.length > 0 && { slowGraphs }),
    },
    models: { ...perRole((role) => models[role].decoder), vocabSize },
    remoteBase,
    warnings: [
      ...tokenizers.warnings.map((warning) => `${entry.id}: ${warning}`),
      ...tokenizers.toolFormat.warnings.map((warning) => `${entry.id}: ${warning}`),
      ...slowGraphs.map(
        ({ role, reason }) =>
          `${entry.id}: the ${role} model is slower, because each run copies its KV cache. Reason: ${reason}`,
      ),
      ...(unusableIds.length > 0
        ? [
            `${entry.id}: ${unusableIds.length} of ${vocabSize} tokens are never sampled, because the base takes text: they end within a character, or have the text of another token`,
          ]
        : []),
      ...irreproducible.map(
        (reason) =>
          `${entry.id}: the same request may give another text. It is not reproducible: ${reason}`,
      ),
    ],
    constrain: (grammar, eosIds) => grammars.createConstraint(grammar, eosIds),
  };
}
