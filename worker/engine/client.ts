/** The main thread's side of the engine thread: start it, run generations on it, stop it. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { Generation, ModelCard } from "../../shared/job.ts";
import type { Figures } from "./figures.ts";
import {
  isLast,
  type EngineOptions,
  type FromEngine,
  type RunEvent,
  type ToEngine,
} from "./messages.ts";

export class EngineClient {
  /** The ensembles that the engine serves. */
  readonly cards: readonly ModelCard[];
  /** What works, but slower than it could. */
  readonly warnings: readonly string[];
  readonly #thread: Worker;
  readonly #runs = new Map<number, (event: RunEvent) => void>();
  #lastRun = 0;

  private constructor(thread: Worker, { cards, warnings }: FromEngine & { type: "ready" }) {
    this.#thread = thread;
    this.cards = cards;
    this.warnings = warnings;
    thread.on("message", (message: FromEngine) => {
      if (message.type === "run") this.#runs.get(message.run)?.(message.event);
    });
  }

  /**
   * Starts the thread and waits until every ensemble is loaded and checked; throws with the reason if one is unfit.
   * @param onFigures called about once a second with what the engine has done since
   * @param onCrash called if the thread dies later: its runs are lost, and so should the process be
   */
  static async start(
    options: EngineOptions,
    onCrash: (error: Error) => void,
    onFigures: (figures: Figures) => void = () => {},
  ): Promise<EngineClient> {
    const thread = new Worker(new URL("./thread.ts", import.meta.url), { workerData: options });
    const first = await new Promise<FromEngine>((resolve, reject) => {
      thread.once("message", resolve);
      thread.once("error", reject);
    });
    if (first.type !== "ready") {
      throw new Error(first.type === "unfit" ? first.reason : "the engine did not start");
    }
    thread.on("error", onCrash);
    thread.on("message", (message: FromEngine) => {
      if (message.type === "figures") onFigures(message.figures);
    });
    return new EngineClient(thread, first);
  }

  /**
   * Runs a generation. The last event says how it ended; a consumer that leaves early stops the run.
   * @param tenant whose it is: kept prefixes are found again by the same tenant only
   * @param resume tokens that an earlier attempt has generated
   * @param signal stops the run at its next token; it then ends with finish null
   */
  async *run(
    tenant: string,
    generation: Generation,
    resume: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<RunEvent, void, undefined> {
    const run = ++this.#lastRun;
    const events: RunEvent[] = [];
    let wake = () => {};
    this.#runs.set(run, (event) => {
      events.push(event);
      wake();
    });
    const stop = () => this.#send({ type: "stop", run });
    signal.addEventListener("abort", stop);
    try {
      this.#send({ type: "start", run, tenant, generation, resume });
      if (signal.aborted) stop();
      for (;;) {
        for (const event of events.splice(0)) {
          yield event;
          if (isLast(event)) return;
        }
        if (events.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#runs.delete(run);
      stop();
    }
  }

  /** Ends the thread between two steps, whatever runs. `terminate()` within one would abort the process. */
  async close(): Promise<void> {
    const ended = once(this.#thread, "exit");
    this.#send({ type: "exit" });
    await ended;
  }

  #send(message: ToEngine): void {
    this.#thread.postMessage(message);
  }
}
