/** Creates onnxruntime sessions with the options of this worker. */
import { InferenceSession } from "../onnxruntime/onnxruntime.ts";
import type { ExecutionProvider } from "../../engine-client/messages.ts";

export interface SessionOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
  /** Runs the graph; "cpu" if absent. */
  readonly executionProvider?: ExecutionProvider;
  /** Names of the outputs that stay in the provider's memory; none if absent. */
  readonly deviceOutputs?: readonly string[];
  /** Whether onnxruntime leaves the graph as it is; absent: it rewrites it, and keeps all that it can compute from weights alone. */
  readonly isUnchanged?: boolean;
}

/** The part of a session that decoders need: one of onnxruntime, or one on another thread (thread-session.ts). */
export interface GraphSession extends Pick<
  InferenceSession,
  "inputMetadata" | "outputMetadata" | "outputNames" | "release"
> {
  run(
    feeds: InferenceSession.FeedsType,
    fetches: readonly string[],
  ): Promise<InferenceSession.ReturnType>;
}

/** The bytes of a model file, and the folder that the paths of its external weights are relative to. */
export interface GraphInMemory {
  readonly bytes: Uint8Array;
  readonly folder: string;
}

/** @param graph path of a model file, or its content */
export function createSession(
  graph: string | GraphInMemory,
  options: SessionOptions,
): Promise<InferenceSession> {
  if (typeof graph === "string") return InferenceSession.create(graph, onnxruntimeOptions(options));
  const entries = { model_external_initializers_file_folder_path: graph.folder };
  return InferenceSession.create(graph.bytes, onnxruntimeOptions(options, entries));
}

/** @param entries further `session.*` entries of onnxruntime's configuration */
export function onnxruntimeOptions(
  { intraOpThreads, executionProvider = "cpu", deviceOutputs = [], isUnchanged }: SessionOptions,
  entries: Readonly<Record<string, string>> = {},
): InferenceSession.SessionOptions {
  return {
    executionProviders: [executionProvider],
    ...(intraOpThreads > 0 && { intraOpNumThreads: intraOpThreads }),
    ...(isUnchanged && { graphOptimizationLevel: "disabled" }),
    ...(deviceOutputs.length > 0 && {
      preferredOutputLocation: Object.fromEntries(
        deviceOutputs.map((name) => [name, "gpu-buffer"]),
      ),
    }),
    // Errors only.
    logSeverityLevel: 3,
    extra: {
      session: {
        // Each session has its own thread pool. Without this entry its threads spin after a run, which takes CPU time from the
        // other two models: 55.5 ms a token, 23.0 with it (98M base, 10M experts, two cores).
        force_spinning_stop: "1",
        // Without VNNI instructions int8 products overflow 16 bits and are cut off, which gives other tokens. With this entry
        // they are exact; it changes nothing on processors with VNNI.
        x64quantprecision: "1",
        ...entries,
      },
    },
  };
}
