/** Loads and prepares the graphs of model folders. Errors name the file. */
import type { Decoder } from "../decoder/decoder.ts";
import { inspectGraph, type GraphFacts } from "../graph/inspect.ts";
import { loadGraph, prepareAndSave, type GraphSource } from "./load-graph.ts";
import { readConfig } from "./model-config.ts";
import { refuseWrongGraph } from "./wrong-graphs.ts";
import type { PreparedGraph } from "../graph/prepared-file.ts";
import type { SessionOptions } from "../decoder/session.ts";
import { checkExternalFiles, findGraph, type GraphChoice } from "./graph-files.ts";

/** Selects a graph of a model folder, and says how to run it. */
export type GraphOptions = SessionOptions &
  Omit<GraphChoice, "path"> &
  Pick<GraphSource, "preparedFolder" | "adapters" | "onPrepare">;

/** @throws Error with file and reason */
export async function loadDecoder(path: string, options: GraphOptions): Promise<Decoder> {
  return (await loadSession(path, options)).decoder;
}

/** The decoder, and its session. @throws Error with file and reason */
export function loadSession(
  path: string,
  { dtype, file, preparedFolder, adapters, onPrepare, ...options }: GraphOptions,
): ReturnType<typeof loadGraph> {
  return withGraphFile({ path, dtype, file }, (found) => {
    const config = readConfig(path);
    return loadGraph({ file: found, config, options, preparedFolder, adapters, onPrepare });
  });
}

/** Prepares a graph and replaces a stored result. @throws Error with file and reason */
export function prepareDecoder(
  path: string,
  { dtype, file, ...options }: GraphOptions,
): Promise<PreparedGraph> {
  return withGraphFile({ path, dtype, file }, (found) =>
    prepareAndSave({ file: found, config: readConfig(path), options }),
  );
}

/**
 * Facts about a graph file, without loading it.
 * @throws Error with file and reason, also if weights are missing or the export is known to be wrong
 */
export function inspectModel(choice: GraphChoice): Promise<GraphFacts> {
  return withGraphFile(choice, async (file) => {
    const facts = inspectGraph(file);
    checkExternalFiles(file, facts);
    refuseWrongGraph(readConfig(choice.path), facts);
    return facts;
  });
}

async function withGraphFile<T>(
  choice: GraphChoice,
  use: (file: string) => Promise<T>,
): Promise<T> {
  const file = findGraph(choice);
  try {
    return await use(file);
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
