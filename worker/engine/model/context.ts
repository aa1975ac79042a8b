/** The context of a model: that of its config.json, as far as its graph is right and computes in one way. */
import { hasAttentionChunks } from "../graph/attention-chunks.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { lengthSwitch } from "../graph/length-switch.ts";
import { findGraph, hasGraph } from "./graph-files.ts";
import { isRemote, type ModelEntry, type RemoteEntry } from "./manifest.ts";
import { readConfig, type ModelConfig } from "./model-config.ts";

export type Context = Pick<ModelConfig, "contextTokens" | "contextReason">;

/** @throws Error with file and reason if a file cannot be read, or if the graph changes at a length that cannot be read */
export function contextOf(entry: ModelEntry | RemoteEntry): Context {
  const config = readConfig(entry.path);
  // A graph that is missing is reported when it is loaded.
  if (isRemote(entry) || !hasGraph(entry)) return config;
  const file = findGraph(entry);
  try {
    const facts = inspectGraph(file);
    const { attentionChunk } = config;
    const lacksChunks = attentionChunk !== null && !hasAttentionChunks(facts);
    return withSwitch(
      lacksChunks ? withinChunk(config, attentionChunk) : config,
      lengthSwitch(facts),
    );
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** @param tokens the length from which on the graph computes otherwise, if it does */
export function withSwitch(config: Context, tokens: number | null): Context {
  return tokens === null
    ? config
    : upTo(
        config,
        tokens,
        "its graph computes otherwise, also for the tokens that are in the cache",
      );
}

/** Within its first chunk a model attends to all tokens, with chunks or without. */
function withinChunk(config: Context, tokens: number): Context {
  return upTo(
    config,
    tokens,
    "its attention stays within chunks (attention_chunk_size), and its graph has none",
  );
}

function upTo(config: Context, tokens: number, reason: string): Context {
  const { contextTokens } = config;
  if (contextTokens !== null && contextTokens <= tokens) return config;
  return { contextTokens: tokens, contextReason: `beyond ${tokens} tokens ${reason}` };
}
