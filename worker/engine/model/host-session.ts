/** Starts the thread that loads a graph with other adapters (host-thread.ts). */
import { SHARE_ENV, Worker } from "node:worker_threads";
import type { SessionMetadata } from "../decoder/graph-io.ts";
import type { SessionOptions } from "../decoder/session.ts";
import { ThreadSession } from "../decoder/thread-session.ts";
import type { GraphSource } from "./load-graph.ts";
import type { ModelEntry } from "./manifest.ts";

/** An adapter in a graph. */
export interface HostAdapter {
  readonly folder: string;
  readonly fingerprint: string;
  readonly exactRows: boolean;
}

export interface HostRequest {
  /** The model without adapters. */
  readonly entry: ModelEntry;
  /** The adapters that the graph will have. */
  readonly folders: readonly string[];
  /** Those that it has now. */
  readonly known: readonly HostAdapter[];
  /** Of KV caches that are copied once when the graph takes the place of the one before. */
  readonly cacheBytesToMove: number;
  readonly options: SessionOptions & Pick<GraphSource, "preparedFolder">;
}

export type FromHost =
  | {
      readonly type: "ready";
      readonly metadata: SessionMetadata;
      /** In the order of the graph. */
      readonly adapters: readonly HostAdapter[];
    }
  | { readonly type: "failed"; readonly reason: string };

export interface HostSession {
  readonly session: ThreadSession;
  readonly adapters: readonly HostAdapter[];
}

/** @throws Error with the reason if the graph cannot be loaded with these adapters */
export async function startHostSession(request: HostRequest): Promise<HostSession> {
  const thread = new Worker(new URL("host-thread.ts", import.meta.url), {
    name: "adapters",
    workerData: request,
    env: SHARE_ENV,
  });
  const first = await new Promise<FromHost>((resolve, reject) => {
    thread.once("message", resolve);
    thread.once("error", reject);
    thread.once("exit", () => reject(new Error("The thread that loads adapters has ended")));
  });
  if (first.type === "failed") {
    throw new Error(first.reason);
  }
  // Without its thread no sequence of this graph can go on: the error ends the engine thread.
  thread.on("error", (error) => {
    throw error;
  });
  const { metadata, adapters } = first;
  return { session: new ThreadSession(thread, metadata), adapters };
}
