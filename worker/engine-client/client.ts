/**
 * Starts the prepare thread and the engine thread, runs generations on them and stops them. This folder is the border between
 * the threads: the main thread reaches the other two only through it. It knows generations and tokens, not jobs, queues or
 * Redis.
 */
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as v8 from "node:v8";
import { SHARE_ENV, Worker } from "node:worker_threads";
import type { ErrorCode } from "../../shared/api/error-codes.ts";
import type { Generation } from "../../shared/jobs/record.ts";
import { lowerHelperPriority } from "../../shared/threads/priority.ts";
import type { TokenizerAnswer, TokenizerRequest } from "../../shared/workers/tokenizer-requests.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import {
  isEndEvent,
  NO_USAGE,
  toSent,
  type EngineOptions,
  type EngineStats,
  type FromEngine,
  type FromPrepare,
  type FromPull,
  type RemoteBaseState,
  type RunEvent,
  type ToEngine,
  type ToPrepare,
} from "./messages.ts";
import { EnsembleChanges } from "./ensemble-changes.ts";
import type { LoadingProgress } from "./loading-progress.ts";
import { ProgressWatch } from "./progress-watch.ts";

/** The messages of both threads when they are ready. */
type Started = FromEngine & { type: "ready" } & { readonly manifestText: string };
type Threads = Readonly<Record<"prepare" | "engine", Worker>>;

/** A run, and what receives the messages about it. */
interface Run {
  /** The thread that works on it. */
  thread: keyof Threads;
  readonly onPrepared: (message: FromPrepare & { type: "prepared" | "failed" }) => void;
  readonly onEvent: (event: RunEvent) => void;
}

/** Why a generation cannot run. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

/** The facts about a job that its run needs. */
export interface RunOptions {
  /** Tokens of the prompt whose details an earlier attempt has logged. */
  readonly promptLogged?: number;
  /** The time that chat templates see; by default now. */
  readonly submittedAtMs?: number;
}

export class EngineClient {
  /** Changes which ensembles are served. */
  readonly changes: EnsembleChanges;
  /** Why a model runs slower than it could; empty if none does. */
  readonly warnings: readonly string[];
  /** The manifest with which it started. */
  readonly manifestText: string;
  #bases: readonly RemoteBaseState[];
  /** Called when a base on another server can be used again, or cannot any more. */
  onBases: (bases: readonly RemoteBaseState[]) => void = () => {};
  readonly #threads: Threads;
  readonly #runs = new Map<number, Run>();
  readonly #questions = new Map<number, PromiseWithResolvers<TokenizerAnswer | null>>();
  #lastRun = 0;
  readonly #watches: Partial<Record<keyof Threads, ProgressWatch>> = {};

  private constructor(threads: Threads, { cards, warnings, bases, manifestText }: Started) {
    this.#threads = threads;
    this.changes = new EnsembleChanges(threads, cards);
    this.warnings = warnings;
    this.manifestText = manifestText;
    this.#bases = bases;
    threads.prepare.on("message", (message: FromPrepare) => {
      if (!("run" in message)) return;
      this.#watches.prepare?.progressed();
      if (message.type === "tokenized") this.#questions.get(message.run)?.resolve(message.answer);
      else this.#runs.get(message.run)?.onPrepared(message);
      if (message.type === "failed") this.#questions.get(message.run)?.resolve(null);
    });
    threads.engine.on("message", (message: FromEngine) => {
      if (isProgress(message)) this.#watches.engine?.progressed();
      if (message.type === "events") {
        for (const { run, event } of message.events) this.#runs.get(run)?.onEvent(event);
      }
      if (message.type === "bases") {
        this.#bases = message.bases;
        this.onBases(message.bases);
      }
    });
  }

  /** The ensembles that the engine serves. */
  get cards(): readonly ModelCard[] {
    return this.changes.cards;
  }

  /** The bases that other servers run. */
  get bases(): readonly RemoteBaseState[] {
    return this.#bases;
  }

  /**
   * Watches the progress of both threads.
   * @param seconds time without a step of the engine, or without a prepared generation, while there is one to run or to prepare
   * @param onHang called with the name of the thread that makes no progress. It cannot be ended, so the process must be.
   */
  watchProgress(seconds: number, onHang: (thread: keyof Threads) => void): void {
    for (const thread of ["prepare", "engine"] as const) {
      const hasWork = () =>
        (thread === "prepare" && this.#questions.size > 0) ||
        [...this.#runs.values()].some((run) => run.thread === thread);
      this.#watches[thread] = new ProgressWatch(hasWork, seconds, () => onHang(thread));
    }
  }

  /**
   * Starts both threads and waits until every ensemble is loaded and checked.
   * @param onCrash called if a thread ends with an error later. All runs are then lost, so the process should exit.
   * @param onStats called about once a second with the engine's counts since the last call
   * @param onLoading called before each model is loaded, and after the last one
   * @throws Error with the reason if an ensemble cannot be served
   */
  static async start(
    options: EngineOptions,
    onCrash: (error: Error) => void,
    onStats: (stats: EngineStats) => void = () => {},
    onLoading: (progress: LoadingProgress) => void = () => {},
  ): Promise<EngineClient> {
    if (options.pullsModels) await pullModels(options, onLoading);
    const helperWarnings = lowerHelperPriority({ fs, os, v8 });
    const threads: Threads = {
      prepare: startThread("prepare", "../engine/prepare/thread.ts", options),
      engine: startThread("engine", "../engine/thread.ts", options),
    };
    threads.engine.on("message", (message: FromEngine) => {
      if (message.type === "loading") onLoading(message.progress);
      if (message.type === "stats") onStats(message.stats);
    });
    try {
      const [prepare, engine] = await Promise.all([
        firstMessage<FromPrepare>(threads.prepare),
        firstMessage<FromEngine>(threads.engine),
      ]);
      const { warnings, manifestText } = prepare as FromPrepare & { type: "ready" };
      const ready = engine as FromEngine & { type: "ready" };
      const client = new EngineClient(threads, {
        ...ready,
        manifestText,
        warnings: [...helperWarnings, ...warnings, ...ready.warnings],
      });
      for (const thread of [threads.prepare, threads.engine]) thread.on("error", onCrash);
      return client;
    } catch (error) {
      for (const thread of [threads.prepare, threads.engine]) {
        // Without a listener the error of the other thread would end the process.
        thread.on("error", () => {});
        thread.postMessage({ type: "exit" });
      }
      throw error;
    }
  }

  /**
   * Runs a generation and yields its events; the last one is a RunEndEvent. Leaving the loop early stops the run.
   * @param tenant owner of the job: cached prefixes are reused only for the same tenant
   * @param resume tokens that an earlier attempt generated
   * @param signal stops the run: at once before it has reached the engine thread, then before its next token. It ends with
   *   finish null.
   * @throws Error if the engine fails for another reason than the generation. Its message, which may contain paths and values,
   *   is for logs only.
   */
  async *run(
    tenant: string,
    generation: Generation,
    resume: readonly number[],
    signal: AbortSignal,
    { promptLogged = 0, submittedAtMs = Date.now() }: RunOptions = {},
  ): AsyncGenerator<RunEvent, void, undefined> {
    const run = ++this.#lastRun;
    const events: RunEvent[] = [];
    let isPreparing = true;
    let wake = () => {};
    const onEvent = (event: RunEvent) => {
      events.push(event);
      wake();
    };
    const state: Run = {
      thread: "prepare",
      onEvent,
      onPrepared: (message) => {
        if (!isPreparing) return;
        isPreparing = false;
        if (message.type === "prepared") {
          const { prepared } = message;
          state.thread = "engine";
          this.#toEngine({ type: "start", run, tenant, prepared, resume, promptLogged });
        } else {
          const { code, message: reason } = message;
          onEvent({ type: "failed", code, message: reason, usage: NO_USAGE });
        }
      },
    };
    this.#runs.set(run, state);
    const stop = () => {
      if (!isPreparing) return this.#toEngine({ type: "stop", run });
      isPreparing = false;
      this.#toPrepare({ type: "drop", run });
      onEvent({ type: "end", finish: null, usage: NO_USAGE });
    };
    signal.addEventListener("abort", stop);
    const sent = toSent(generation);
    try {
      this.#toPrepare({ type: "prepare", run, tenant, generation: sent, resume, submittedAtMs });
      if (signal.aborted) stop();
      for (;;) {
        for (const event of events.splice(0)) {
          if (event.type === "failed" && event.code === "internal") throw new Error(event.message);
          yield event;
          if (isEndEvent(event)) return;
        }
        if (events.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#runs.delete(run);
      stop();
    }
  }

  /**
   * Prepares a generation that does not run yet. Its token ids stay in the prepare thread for a while, for the run.
   * @returns why it is refused; null if it is not
   * @throws Error as `run` does
   */
  async prepare(
    tenant: string,
    generation: Generation,
    submittedAtMs: number,
  ): Promise<Refusal | null> {
    const run = ++this.#lastRun;
    const prepared = Promise.withResolvers<FromPrepare & { type: "prepared" | "failed" }>();
    const state = { thread: "prepare", onEvent: () => {}, onPrepared: prepared.resolve } as const;
    this.#runs.set(run, state);
    const sent = toSent(generation);
    this.#toPrepare({ type: "prepare", run, tenant, generation: sent, resume: [], submittedAtMs });
    const message = await prepared.promise;
    this.#runs.delete(run);
    if (message.type === "prepared") return null;
    const { code, message: reason } = message;
    if (code === "internal") throw new Error(reason);
    return { code, message: reason };
  }

  /** Asks a tokenizer, on the prepare thread. @throws Error if it fails for another reason than the question */
  async tokenize({
    tenant,
    model,
    question,
  }: Pick<TokenizerRequest, "tenant" | "model" | "question">): Promise<TokenizerAnswer> {
    const run = ++this.#lastRun;
    const answer = Promise.withResolvers<TokenizerAnswer | null>();
    this.#questions.set(run, answer);
    this.#toPrepare({ type: "tokenize", run, tenant, model, question });
    const answered = await answer.promise;
    this.#questions.delete(run);
    if (answered === null) throw new Error(`The tokenizer of ${model} failed`);
    return answered;
  }

  /** Ends the threads between two steps; runs are lost. `terminate()` during a step would abort the process. */
  async close(): Promise<void> {
    for (const watch of Object.values(this.#watches)) watch.stop();
    const { prepare, engine } = this.#threads;
    const ended = Promise.all([once(prepare, "exit"), once(engine, "exit")]);
    this.#toPrepare({ type: "exit" });
    this.#toEngine({ type: "exit" });
    await ended;
  }

  #toPrepare(message: ToPrepare): void {
    this.#threads.prepare.postMessage(message);
  }

  #toEngine(message: ToEngine): void {
    this.#threads.engine.postMessage(message);
  }
}

/** A remote base that does not answer is no fault of the engine, which waits for it as long as its entry in the manifest says. */
function isProgress(message: FromEngine): boolean {
  if (message.type !== "stats") return message.type === "events";
  return message.stats.stepMs.length > 0 || message.stats.awaitsBase;
}

/** @param name of the thread, as `top -H` shows it */
function startThread(name: string, file: string, options: EngineOptions): Worker {
  return new Worker(new URL(file, import.meta.url), {
    name,
    workerData: options,
    // engine/onnxruntime/telemetry-off.ts sets a variable that native code reads.
    env: SHARE_ENV,
  });
}

async function pullModels(
  options: EngineOptions,
  onLoading: (progress: LoadingProgress) => void,
): Promise<void> {
  const thread = startThread("hub", "../engine/hub/thread.ts", options);
  thread.on("message", (message: FromPull) => {
    if (message.type === "loading") onLoading(message.progress);
  });
  await firstMessage<FromPull>(thread);
}

/** @throws Error with the reason if the thread does not start */
async function firstMessage<T extends FromEngine | FromPrepare | FromPull>(
  thread: Worker,
): Promise<T> {
  const first = await new Promise<T>((resolve, reject) => {
    thread.on("message", (message: T) => {
      if (message.type !== "loading") resolve(message);
    });
    thread.once("error", reject);
  });
  if (first.type === "ready") return first;
  throw new Error(first.type === "startFailed" ? first.reason : "A thread did not start");
}
