/**
 * A session on another thread. Creating a session blocks its thread for as long as sixty steps of a small model (10M parameters: 0.17 s
 * of processor time; 98M: 0.8 s), and a session cannot move to another thread. So a session that replaces another one while sequences run
 * is created, and stays, on a thread of its own (session-server.ts).
 */
import type { Worker } from "node:worker_threads";
import { Tensor, type InferenceSession } from "../onnxruntime/onnxruntime.ts";
import type { SessionMetadata } from "./graph-io.ts";
import type { GraphSession } from "./session.ts";

/** A tensor as it passes between the threads: shared memory is not copied. Values of 16 bits are integers. */
export interface SentTensor {
  readonly type: Tensor.Type;
  readonly data: Tensor.DataTypeMap[keyof Tensor.DataTypeMap] | ArrayBufferView;
  readonly dims: readonly number[];
}
export type SentTensors = Readonly<Record<string, SentTensor>>;

export type ToSession =
  | { readonly type: "run"; readonly feeds: SentTensors; readonly fetches: readonly string[] }
  | { readonly type: "exit" };

export type FromSession =
  | { readonly type: "results"; readonly results: SentTensors }
  | { readonly type: "runFailed"; readonly reason: string };

export class ThreadSession implements GraphSession {
  readonly inputMetadata;
  readonly outputMetadata;
  readonly outputNames;
  readonly #thread: Worker;
  readonly #exited: Promise<void>;
  #run: PromiseWithResolvers<InferenceSession.ReturnType> | null = null;

  /** @param thread that serves the session and has sent its last other message */
  constructor(thread: Worker, { inputMetadata, outputMetadata, outputNames }: SessionMetadata) {
    this.inputMetadata = inputMetadata;
    this.outputMetadata = outputMetadata;
    this.outputNames = outputNames;
    this.#thread = thread;
    this.#exited = new Promise((resolve) => {
      thread.once("exit", () => resolve());
    });
    thread.on("message", (message: FromSession) => {
      if (message.type === "results") this.#run?.resolve(receivedTensors(message.results));
      else this.#run?.reject(new Error(message.reason));
    });
  }

  /** One run at a time. @throws Error of onnxruntime */
  run(
    feeds: InferenceSession.FeedsType,
    fetches: readonly string[],
  ): Promise<InferenceSession.ReturnType> {
    this.#run = Promise.withResolvers();
    const sent = Object.fromEntries(
      Object.entries(feeds).map(([name, { type, data, dims }]) => [
        name,
        { type, data: data as ArrayBufferView, dims },
      ]),
    );
    this.#thread.postMessage({ type: "run", feeds: sent, fetches } satisfies ToSession);
    return this.#run.promise;
  }

  /** Ends the thread between two runs. */
  async release(): Promise<void> {
    this.#thread.postMessage({ type: "exit" } satisfies ToSession);
    await this.#exited;
  }
}

function receivedTensors(sent: SentTensors): InferenceSession.ReturnType {
  return Object.fromEntries(
    Object.entries(sent).map(([name, { type, data, dims }]) => {
      // The constructor would convert or copy values of 16 bits.
      const { buffer, byteOffset, length } = data as Uint16Array;
      const values = type === "float16" ? new Float16Array(buffer, byteOffset, length) : data;
      return [name, { type, data: values, dims } as unknown as Tensor];
    }),
  );
}
