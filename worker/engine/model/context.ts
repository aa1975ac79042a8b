/** The context of a model: that of its config.json, as far as its graph computes in one way. */
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
    return withSwitch(config, lengthSwitch(inspectGraph(file)));
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** @param tokens the length from which on the graph computes otherwise, if it does */
export function withSwitch(config: Context, tokens: number | null): Context {
  if (tokens === null) return config;
  const { contextTokens } = config;
  if (contextTokens !== null && contextTokens <= tokens) return config;
  const contextReason = `beyond ${tokens} tokens its graph computes otherwise, also for the tokens that are in the cache`;
  return { contextTokens: tokens, contextReason };
}
