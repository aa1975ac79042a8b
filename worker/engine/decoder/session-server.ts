/** The other side of a ThreadSession: runs a session for the thread that started this one. */
import type { MessagePort } from "node:worker_threads";
import { Tensor } from "../onnxruntime/onnxruntime.ts";
import { float16Tensor } from "./graph-io.ts";
import type { GraphSession } from "./session.ts";
import type { FromSession, SentTensor, SentTensors, ToSession } from "./thread-session.ts";

/** Serves a session until it is told to exit. Messages are handled between two runs, because a run blocks this thread. */
export function serveSession(session: GraphSession, port: MessagePort): void {
  port.on("message", (message: ToSession) => {
    if (message.type === "exit") process.exit();
    const feeds = Object.fromEntries(
      Object.entries(message.feeds).map(([name, tensor]) => [name, toTensor(tensor)]),
    );
    session.run(feeds, message.fetches).then(
      (results) => {
        const sent: Record<string, SentTensor> = {};
        const memory: ArrayBuffer[] = [];
        for (const [name, { type, data, dims }] of Object.entries(results)) {
          const values = data as Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>;
          memory.push(values.buffer);
          sent[name] = { type, data: type === "float16" ? bitsOf(values) : values, dims };
        }
        port.postMessage(
          { type: "results", results: sent satisfies SentTensors } satisfies FromSession,
          memory,
        );
      },
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        port.postMessage({ type: "runFailed", reason } satisfies FromSession);
      },
    );
  });
}

const bitsOf = ({ buffer, byteOffset, length }: Float32Array | Float16Array) =>
  new Uint16Array(buffer, byteOffset, length);

function toTensor({ type, data, dims }: SentTensor): Tensor {
  if (type === "float16") return float16Tensor(data as Uint16Array, dims);
  return new Tensor(type as "float32", data as Float32Array, dims);
}
