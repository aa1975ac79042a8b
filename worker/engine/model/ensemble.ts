/**
 * An ensemble: three models, their tokenizers, and the values that the engine needs from them; load-ensembles.ts loads them. This is
 * the folder's main file. The folder turns model folders into decoders, tokenizers and checked ensembles. It knows nothing of queues,
 * scheduling or the decode loop. An ensemble whose models do not fit together is refused when the worker starts, with the
 * reason, and not in the middle of a generation.
 */
import type { ModelCard } from "../../../shared/workers/model-card.ts";
import type { Constraint } from "../decode/sampler.ts";
import type { PreparedGrammar } from "../../engine-client/messages.ts";
import { GrammarCache } from "../grammar/grammar-cache.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { ensembleFingerprint } from "./fingerprint.ts";
import type { GraphFacts } from "../graph/inspect.ts";
import {
  loadTokenizers,
  perRole,
  ROLES,
  type EnsembleTokenizers,
  type PerRole,
} from "./ensemble-tokenizers.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import { isRemote, type EnsembleEntry, type ModelEntry, type RemoteEntry } from "./manifest.ts";
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import type { SharedTokenizers } from "./tokenizer.ts";

/** The three models of an ensemble. */
export interface Models extends PerRole<Decoder> {
  /** V, the size of the common vocabulary. A model may return more logits; the rest is padding and never sampled. */
  readonly vocabSize: number;
}

export interface LoadedModel extends Pick<GraphFacts, "quantizesActivations"> {
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

interface LoadContext {
  readonly load: (model: ModelEntry) => Promise<LoadedModel>;
  readonly loadBase: (model: RemoteEntry, tokenizers: EnsembleTokenizers) => Promise<LoadedModel>;
  readonly shared: SharedTokenizers;
  readonly executionProvider?: ExecutionProvider | undefined;
}

/** @throws Error with the reason if its models do not fit together or cannot be loaded */
export async function assembleEnsemble(
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
