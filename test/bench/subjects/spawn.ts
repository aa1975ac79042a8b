/**
 * The bench's side of a subject's process, which stands still while others are measured: some engines keep both cores
 * busy with nothing to do (llama.cpp's threads).
 */
import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { FromSubject, Sample, SubjectOptions, Task } from "./subject.ts";

const PROCESS = fileURLToPath(new URL("./process.ts", import.meta.url));

export class SubjectProcess {
  readonly loadMs: number;
  /** Resident memory after loading, and the most so far. */
  readonly rssBytes: number;
  rssBytesMax: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, ready: FromSubject & { type: "ready" }) {
    this.#child = child;
    this.loadMs = ready.loadMs;
    this.rssBytes = ready.rssBytes;
    this.rssBytesMax = ready.rssBytes;
    child.kill("SIGSTOP");
  }

  /** Starts and loads; throws with the reason if the engine cannot run here. */
  static async start(options: SubjectOptions): Promise<SubjectProcess> {
    const child = fork(PROCESS, [JSON.stringify(options)], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    const first = await answer(child);
    if (first.type === "ready") return new SubjectProcess(child, first);
    child.kill();
    throw new Error(first.type === "failed" ? first.reason : "the process did not load");
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async measure(task: Task): Promise<Sample> {
    this.#child.kill("SIGCONT");
    this.#child.send(task);
    const message = await answer(this.#child);
    this.#child.kill("SIGSTOP");
    if (message.type !== "sample")
      throw new Error(message.type === "failed" ? message.reason : "no sample");
    this.rssBytesMax = message.rssBytesMax;
    return message.sample;
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

function answer(child: ChildProcess): Promise<FromSubject> {
  return new Promise((resolve) => {
    const exited = (code: number | null, signal: string | null) =>
      resolve({ type: "failed", reason: `the process ended (${signal ?? `exit ${code}`})` });
    child.once("exit", exited);
    child.once("message", (message) => {
      child.off("exit", exited);
      resolve(message as FromSubject);
    });
  });
}
