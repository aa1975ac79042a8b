/**
 * Runs generation in a child process: the same program with `ROLES=generate`. A crash of the engine (its libraries are native
 * code, and models may need more memory than there is) then ends only the child, and the parent process starts it again, while
 * webhooks, batches and the sweeper go on. This folder knows processes, not what they do.
 */
import { fork, type ChildProcess } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import {
  CANNOT_START,
  REPLACEMENT,
  type Answer,
  type Keep,
  type ProcessState,
  type Question,
} from "./messages.ts";
import { endsOnHangup } from "./stop-signal.ts";

/** Pause before the second restart in a row; it doubles with each further one, up to the maximum. The first is at once. */
const RESTART_MS = 1_000;
const RESTART_MAX_MS = 30_000;
/** A process that has run for this long was not lost because of its start. */
const STABLE_MS = 60_000;
/** A process that does not answer within this time counts as not ready. */
const ANSWER_MS = 2_000;
/** A process that has not answered yet has at least this time: loading its modules may block it for long. */
const START_SECONDS = 600;
/** Interval at which it is asked whether it lives. */
const QUESTION_MS = 1_000;
/** Time to exit after the drain, before the process is killed. */
const EXIT_MS = 5_000;

const STARTING: ProcessState = { problem: "The generating process starts", away: {}, metrics: [] };
const SILENT: ProcessState = {
  problem: "The generating process does not answer",
  away: {},
  metrics: [],
};

export interface GeneratingProcessOptions {
  /** Path of the program. */
  readonly program: string;
  /** Environment variables in addition to those of this process. */
  readonly env: Readonly<Record<string, string>>;
  readonly log: Logger;
  /** It is killed when it has not answered for this many seconds. */
  readonly hangSeconds: number;
  /** Called when the process ends because it can never start. It has logged the reason. */
  readonly onCannotStart: () => void;
}

export class GeneratingProcess {
  readonly #options: GeneratingProcessOptions;
  #child: ChildProcess;
  #exited: Promise<unknown> = Promise.resolve();
  readonly #started = Promise.withResolvers<void>();
  #lossesInARow = 0;
  /** The message for a replacement; null if no process has started. */
  #kept: string | null = null;
  #hasAnswered = false;
  /** Questions since its last answer, one a second. */
  #unanswered = 0;
  readonly #watch: NodeJS.Timeout;
  #isClosing = false;
  #lastQuestion = 0;
  readonly #answers = new Map<number, (state: ProcessState) => void>();

  constructor(options: GeneratingProcessOptions) {
    this.#options = options;
    this.#child = this.#start();
    if (!endsOnHangup()) {
      process.on("SIGHUP", () => {
        if (this.#hasAnswered) this.#child.kill("SIGHUP");
      });
    }
    this.#watch = setInterval(() => this.#killIfHung(), QUESTION_MS).unref();
  }

  /** Resolves when the process has started for the first time: its models are loaded, and it takes jobs. */
  ready(): Promise<void> {
    return this.#started.promise;
  }

  /** Asks the process for its state. @param withMetrics whether its metrics are needed */
  async state(withMetrics: boolean): Promise<ProcessState> {
    const child = this.#child;
    if (!child.connected) return STARTING;
    const id = ++this.#lastQuestion;
    const { promise, resolve } = Promise.withResolvers<ProcessState>();
    this.#answers.set(id, resolve);
    child.send({ id, withMetrics } satisfies Question, () => {});
    const timer = setTimeout(() => resolve(SILENT), ANSWER_MS);
    const state = await promise;
    clearTimeout(timer);
    this.#answers.delete(id);
    return state;
  }

  /** Asks the process to drain. Resolves when it has ended. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#child.kill("SIGTERM");
    await this.#exited;
  }

  /** Waits a little for the end of a process that drains, then kills it. */
  async end(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), EXIT_MS);
    await this.#exited;
    clearTimeout(timer);
    clearInterval(this.#watch);
  }

  /**
   * Kills a process whose main thread is stopped or blocked: its jobs go to other workers, but it would never work again.
   * Questions are counted, not time: while this process or its machine is suspended, no process can answer.
   */
  #killIfHung(): void {
    const child = this.#child;
    if (!child.connected) return;
    const { hangSeconds, log } = this.#options;
    const seconds = this.#hasAnswered ? hangSeconds : Math.max(START_SECONDS, hangSeconds);
    if (++this.#unanswered * QUESTION_MS > seconds * 1000) {
      this.#unanswered = 0;
      log.error(
        { seconds, pid: child.pid },
        "The generating process does not answer: it is killed",
      );
      child.kill("SIGKILL");
      return;
    }
    void this.state(false);
  }

  #start(): ChildProcess {
    const { program, env } = this.#options;
    const startedAt = performance.now();
    const child = fork(program, this.#kept === null ? [] : [REPLACEMENT], {
      env: { ...process.env, ...env },
      // A debugger is attached to one process; its port is in use then.
      execArgv: process.execArgv.filter((option) => !option.startsWith("--inspect")),
    });
    if (this.#kept !== null) child.send({ keep: this.#kept } satisfies Keep, () => {});
    this.#unanswered = 0;
    this.#hasAnswered = false;
    child.on("message", (message: Answer | Keep) => {
      if ("keep" in message) {
        this.#kept = message.keep;
        return;
      }
      const { id, state } = message;
      this.#unanswered = 0;
      this.#hasAnswered = true;
      if (id === 0) this.#started.resolve();
      this.#answers.get(id)?.(state);
    });
    this.#exited = new Promise<void>((resolve) => {
      const ended = (code: number | null, signal: NodeJS.Signals | null) => {
        resolve();
        if (!this.#isClosing) this.#lost(code, signal, performance.now() - startedAt);
      };
      child.once("exit", ended);
      child.on("error", (error) => {
        this.#options.log.error({ err: error }, "Error of the generating process");
        // A process that could not be started has no exit event.
        if (child.pid === undefined) ended(null, null);
      });
    });
    return child;
  }

  #lost(code: number | null, signal: NodeJS.Signals | null, ranMs: number): void {
    const { log, onCannotStart } = this.#options;
    if (code === CANNOT_START) {
      if (this.#kept === null) return onCannotStart();
      // Without what was kept it may start.
      this.#kept = null;
    }
    if (ranMs > STABLE_MS) this.#lossesInARow = 0;
    const pauseMs =
      this.#lossesInARow === 0
        ? 0
        : Math.min(RESTART_MAX_MS, RESTART_MS * 2 ** (this.#lossesInARow - 1));
    this.#lossesInARow++;
    log.error(
      { code, signal, pauseMs },
      "The generating process was lost; another one is started. Its jobs are continued when their leases expire",
    );
    void this.#restart(pauseMs);
  }

  async #restart(pauseMs: number): Promise<void> {
    await delay(pauseMs);
    if (!this.#isClosing) this.#child = this.#start();
  }
}
