/** How this worker runs graphs with onnxruntime. */
import { InferenceSession } from "onnxruntime-node";
import type { ExecutionProvider } from "./provider.ts";

export interface SessionOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
  /** What the graphs run on; the processor if absent. */
  readonly executionProvider?: ExecutionProvider;
  /** Outputs that stay in the provider's memory; none if absent. */
  readonly keptOutputs?: readonly string[];
}

/** A graph that is in memory, and the folder that its weights' locations are relative to. */
export interface GraphInMemory {
  readonly bytes: Uint8Array;
  readonly folder: string;
}

/** @param graph a file, or what would be in one */
export function createSession(
  graph: string | GraphInMemory,
  options: SessionOptions,
): Promise<InferenceSession> {
  if (typeof graph === "string") return InferenceSession.create(graph, nativeOptions(options));
  const settings = { model_external_initializers_file_folder_path: graph.folder };
  return InferenceSession.create(graph.bytes, nativeOptions(options, settings));
}

/** @param settings more `session.*` entries of onnxruntime's configuration */
export function nativeOptions(
  { intraOpThreads, executionProvider = "cpu", keptOutputs = [] }: SessionOptions,
  settings: Readonly<Record<string, string>> = {},
): InferenceSession.SessionOptions {
  return {
    executionProviders: [executionProvider],
    ...(intraOpThreads > 0 && { intraOpNumThreads: intraOpThreads }),
    ...(keptOutputs.length > 0 && {
      preferredOutputLocation: Object.fromEntries(keptOutputs.map((name) => [name, "gpu-buffer"])),
    }),
    logSeverityLevel: 3,
    // Each session has its own pool, whose threads spin after a run and starve the other two models:
    // 55.5 ms a token without this line, 23.0 with it (98M base, 10M experts, two cores).
    extra: { session: { force_spinning_stop: "1", ...settings } },
  };
}
