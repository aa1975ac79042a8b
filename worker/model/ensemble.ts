/**
 * An ensemble is checked before it serves: what does not fit together is refused with its reason, when the worker
 * starts and not in the middle of somebody's answer. Nothing is truncated silently.
 */
import { createHash } from "node:crypto";
import type { Input, ModelCard } from "../../shared/job.ts";
import { AppError } from "../../shared/errors.ts";
import type { Grammar } from "../../shared/grammar.ts";
import type { Constraint } from "../decode/sampler.ts";
import { Grammars } from "../grammar/grammars.ts";
import type { Models, Prompts } from "../parts.ts";
import type { Decoder } from "./decoder.ts";
import { loadDecoder, readConfig, type ModelConfig } from "./files.ts";
import type { EnsembleEntry, Manifest, ModelEntry } from "./manifest.ts";
import { checkProvider } from "./provider.ts";
import type { SessionOptions } from "./session.ts";
import { ModelTokenizer } from "./tokenizer.ts";
import type { TokenText } from "./token-text.ts";
import { commonVocabulary } from "./vocabulary.ts";

const ROLES = ["base", "expert", "antiexpert"] as const;
type Role = (typeof ROLES)[number];
type PerRole<T> = Readonly<Record<Role, T>>;

interface LoadedModel {
  readonly decoder: Decoder;
  readonly config: ModelConfig;
}

export interface Ensemble {
  readonly card: ModelCard;
  readonly models: Models;
  /** Any model's end token ends the text. */
  readonly eosIds: ReadonlySet<number>;
  readonly unusedIds: readonly number[];
  /** What works, but slower than it could. */
  readonly warnings: readonly string[];
  readonly encode: (input: Input) => Prompts;
  /** Ids of a text as what the base says. */
  readonly encodeCompletion: (text: string) => number[];
  readonly decode: (ids: number[]) => string;
  readonly tokenText: (id: number) => TokenText;
  /** What holds one output to a grammar. @throws AppError invalid_request */
  readonly constrain: (grammar: Grammar, eosIds: ReadonlySet<number>) => Constraint;
}

/** Loads every ensemble of a manifest; a model that several share is loaded once. */
export async function loadEnsembles(
  manifest: Manifest,
  options: SessionOptions,
): Promise<Map<string, Ensemble>> {
  await checkProvider(options.executionProvider ?? "cpu");
  const loaded = new Map<string, Promise<LoadedModel>>();
  const load = (entry: ModelEntry): Promise<LoadedModel> => {
    const key = keyOf(entry);
    const model = loaded.get(key) ?? loadModel(entry.path, entry.dtype, options);
    loaded.set(key, model);
    return model;
  };
  const ensembles = new Map<string, Ensemble>();
  for (const entry of manifest.ensembles) {
    try {
      ensembles.set(entry.id, await assemble(entry, load));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`ensemble ${entry.id}: ${reason}`, { cause: error });
    }
  }
  return ensembles;
}

/** Entries with the same key are one model. */
const keyOf = ({ path, dtype }: ModelEntry) => `${dtype} ${path}`;

async function loadModel(
  path: string,
  dtype: ModelEntry["dtype"],
  options: SessionOptions,
): Promise<LoadedModel> {
  return { decoder: await loadDecoder(path, { dtype, ...options }), config: readConfig(path) };
}

async function assemble(
  entry: EnsembleEntry,
  load: (model: ModelEntry) => Promise<LoadedModel>,
): Promise<Ensemble> {
  if (entry.alpha > entry.alphaMax) {
    throw new Error(`alpha ${entry.alpha} is above alphaMax ${entry.alphaMax}`);
  }
  const tokenizers = perRole((role) => new ModelTokenizer(entry[role].path, entry[role]));
  const vocabulary = commonVocabulary(perRole((role) => tokenizers[role].vocab));
  const models = {
    base: await load(entry.base),
    expert: await load(entry.expert),
    antiexpert: await load(entry.antiexpert),
  };
  for (const role of ROLES) {
    const width = models[role].decoder.logitsWidth;
    if (width !== null && width < vocabulary.size) {
      throw new Error(`${role} has ${width} logits for ${vocabulary.size} tokens`);
    }
  }
  const contexts = ROLES.map(
    (role) => models[role].config.contextTokens ?? Number.MAX_SAFE_INTEGER,
  );
  const eosIds = new Set(ROLES.flatMap((role) => models[role].config.eosIds));
  for (const id of eosIds) {
    if (id >= vocabulary.size) throw new Error(`end token ${id} is outside the vocabulary`);
  }
  const tokenBytes = () =>
    Array.from({ length: vocabulary.size }, (_, id) => tokenizers.base.bytesOf(id));
  const grammars = new Grammars(tokenBytes);
  return {
    card: {
      id: entry.id,
      description: entry.description,
      createdAtMs: Date.now(),
      contextTokens: Math.min(...contexts),
      vocabSize: vocabulary.size,
      alphaDefault: entry.alpha,
      alphaMax: entry.alphaMax,
      base: createHash("sha256").update(keyOf(entry.base)).digest("hex"),
    },
    models: { ...perRole((role) => models[role].decoder), vocabSize: vocabulary.size },
    eosIds,
    unusedIds: vocabulary.unusedIds,
    warnings: ROLES.flatMap((role) => {
      const why = models[role].decoder.slowBecause;
      return why ? [`${entry.id}: ${role} copies its KV cache at every step: ${why}`] : [];
    }),
    encode: (input) => encode(tokenizers, input, entry.id),
    encodeCompletion: (text) => tokenizers.base.encodeCompletion(text),
    decode: (ids) => tokenizers.base.decode(ids),
    tokenText: (id) => tokenizers.base.textOf(id),
    constrain: (grammar, eosIds) => grammars.constraint(grammar, eosIds),
  };
}

function encode(tokenizers: PerRole<ModelTokenizer>, input: Input, id: string): Prompts {
  if (input.kind === "chat" && !ROLES.every((role) => tokenizers[role].hasChatTemplate)) {
    throw new AppError("invalid_request", `${id} has no chat template: send a plain prompt`, {
      param: "messages",
    });
  }
  const prompts = renderAll(tokenizers, input);
  if (ROLES.some((role) => prompts[role].length === 0)) {
    throw new AppError("invalid_request", "the prompt must have at least one token", {
      param: "prompt",
    });
  }
  return prompts;
}

function renderAll(tokenizers: PerRole<ModelTokenizer>, input: Input): Prompts {
  try {
    return perRole((role) => tokenizers[role].encode(input));
  } catch (error) {
    if (error instanceof AppError) throw error;
    // Templates refuse conversations by raising: roles that do not alternate, a second system message.
    const reason = error instanceof Error ? error.message : String(error);
    throw new AppError("invalid_request", `the chat template refuses the messages: ${reason}`, {
      param: "messages",
      cause: error,
    });
  }
}

function perRole<T>(of: (role: Role) => T): PerRole<T> {
  return { base: of("base"), expert: of("expert"), antiexpert: of("antiexpert") };
}
