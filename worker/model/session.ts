/** How this worker runs graphs with onnxruntime. */
import { InferenceSession } from "onnxruntime-node";

export interface SessionOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
}

/** A graph that is in memory, and the folder that its weights' locations are relative to. */
export interface GraphInMemory {
  readonly bytes: Uint8Array;
  readonly folder: string;
}

/** @param graph a file, or what would be in one */
export function createSession(
  graph: string | GraphInMemory,
  { intraOpThreads }: SessionOptions,
): Promise<InferenceSession> {
  const settings: Record<string, string> = {
    // Each session has its own pool, whose threads spin after a run and starve the other two models:
    // 55.5 ms a token without this line, 23.0 with it (98M base, 10M experts, two cores).
    force_spinning_stop: "1",
  };
  const options: InferenceSession.SessionOptions = {
    ...(intraOpThreads > 0 && { intraOpNumThreads: intraOpThreads }),
    logSeverityLevel: 3,
    extra: { session: settings },
  };
  if (typeof graph === "string") return InferenceSession.create(graph, options);
  settings["model_external_initializers_file_folder_path"] = graph.folder;
  return InferenceSession.create(graph.bytes, options);
}
