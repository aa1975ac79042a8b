/**
 * Starts the process of an engine (process.ts) and sends it tasks. The process is stopped with SIGSTOP while other engines are
 * measured, because some engines use CPU while they are idle (llama.cpp's threads).
 */
import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { EngineMessage, Sample, BenchEngineOptions, Task } from "./engine.ts";

const PROCESS = fileURLToPath(new URL("./process.ts", import.meta.url));

export class EngineProcess {
  readonly loadMs: number;
  /** Resident memory after loading, and its maximum so far. */
  readonly rssBytes: number;
  rssBytesMax: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, ready: EngineMessage & { type: "ready" }) {
    this.#child = child;
    this.loadMs = ready.loadMs;
    this.rssBytes = ready.rssBytes;
    this.rssBytesMax = ready.rssBytes;
    child.kill("SIGSTOP");
  }

  /** Starts the process and loads the engine. @throws Error with the reason if the engine cannot run here */
  static async start(options: BenchEngineOptions): Promise<EngineProcess> {
    const child = fork(PROCESS, [JSON.stringify(options)], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    const first = await nextMessage(child);
    if (first.type === "ready") return new EngineProcess(child, first);
    child.kill();
    throw new Error(
      first.type === "failed" ? first.reason : "The engine sent an unexpected message",
    );
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async measure(task: Task): Promise<Sample> {
    this.#child.kill("SIGCONT");
    this.#child.send(task);
    const message = await nextMessage(this.#child);
    this.#child.kill("SIGSTOP");
    if (message.type !== "sample")
      throw new Error(message.type === "failed" ? message.reason : "The engine sent no sample");
    this.rssBytesMax = message.rssBytesMax;
    return message.sample;
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

/** The next message of the process; a failure if it exits before. */
function nextMessage(child: ChildProcess): Promise<EngineMessage> {
  return new Promise((resolve) => {
    const exited = (code: number | null, signal: string | null) =>
      resolve({
        type: "failed",
        reason: `The process of the engine ended (${signal ?? `exit ${code}`})`,
      });
    child.once("exit", exited);
    child.once("message", (message) => {
      child.off("exit", exited);
      resolve(message as EngineMessage);
    });
  });
}
