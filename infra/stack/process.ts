/**
 * Child processes: starts them, waits until they are ready, and makes sure that none outlives this process.
 * Each child leads its own process group. So a Ctrl-C in the terminal reaches only this process, and the processes that
 * a child starts end together with it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { guardProcessGroup } from "./orphan-guard.ts";
import { UserError } from "./user-error.ts";

/** Lines of a child's output that an error message shows. */
const LAST_LINES = 20;
/** Limit of the output that is kept in memory. */
const OUTPUT_CHARS_MAX = 16_384;
const POLL_MS = 100;

export interface ChildOptions {
  /** Name of the child in messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Time from SIGTERM to SIGKILL in `stop`; default 10 s. */
  readonly graceMs?: number;
  /** Whether the child uses the input and output of this process; none of its output is then kept. */
  readonly inherit?: boolean;
  /** Limit of the output that is kept: its last characters; default 16,384. */
  readonly outputCharsMax?: number;
  /** Called once when the child has ended, for whatever reason. */
  readonly cleanUp?: () => Promise<void>;
}

/** How a child ended; both are null if it could not be started. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** All children that have not ended, oldest first. */
const running = new Set<Child>();

/** Stops every child, the youngest first, because the younger ones use the older ones. */
export async function stopAllChildren(): Promise<void> {
  for (const child of [...running].toReversed()) await child.stop();
}

export class Child {
  readonly name: string;
  /** Resolves when the process has ended and its output is read; never rejects. */
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #graceMs: number;
  #output = "";
  #exit: Exit | undefined;
  #spawnError: Error | undefined;

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#graceMs = options.graceMs ?? 10_000;
    const { inherit = false, outputCharsMax = OUTPUT_CHARS_MAX } = options;
    this.#process = spawn(options.command, options.args, {
      detached: true,
      env: { ...process.env, ...options.env },
      stdio: inherit ? "inherit" : ["ignore", "pipe", "pipe"],
    });
    running.add(this);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output = (this.#output + text).slice(-outputCharsMax);
      });
    }
    const unguard = this.pid === undefined ? () => {} : guardProcessGroup(this.pid);
    this.exited = this.#ended().then(async (exit) => {
      unguard();
      await options.cleanUp?.();
      this.#exit = exit;
      running.delete(this);
      return exit;
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** Standard output and error together, up to `outputCharsMax`. */
  get output(): string {
    return this.#output;
  }

  /** The last 20 lines of the output. */
  get lastLines(): string {
    return this.#output.trimEnd().split("\n").slice(-LAST_LINES).join("\n");
  }

  /** Sends a signal to the child's process group; does nothing if the group has ended. */
  kill(signal: NodeJS.Signals): void {
    if (this.pid === undefined || !this.running) return;
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /** Sends SIGTERM, and SIGKILL after the grace time; resolves when the child has ended. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), this.#graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  /** Resolves when the URL answers 200. @throws UserError like `waitFor` */
  waitForUrl(url: string, deadlineMs: number): Promise<void> {
    return this.waitFor(`${url} to answer 200`, deadlineMs, async () => {
      const reply = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      await reply.body?.cancel();
      return reply.status === 200;
    });
  }

  /**
   * Resolves when the probe returns true; a probe that throws is called again.
   * @param condition what the probe waits for, as the error message says it
   * @throws UserError if the child ends first or the deadline passes; it then stops the child and shows its last lines
   */
  async waitFor(
    condition: string,
    deadlineMs: number,
    probe: () => Promise<boolean> | boolean,
  ): Promise<void> {
    const endMs = Date.now() + deadlineMs;
    while (this.running && Date.now() < endMs) {
      if (
        await Promise.resolve()
          .then(probe)
          .catch(() => false)
      )
        return;
      await Promise.race([delay(POLL_MS), this.exited]);
    }
    const reason = this.running
      ? `${this.name}: waited ${deadlineMs / 1000} s for ${condition}`
      : `${this.name} ${this.#ending()}`;
    await this.stop();
    throw new UserError(
      this.lastLines === "" ? reason : `${reason}; its last output:\n${this.lastLines}`,
    );
  }

  #ended(): Promise<Exit> {
    return new Promise((resolve) => {
      this.#process.once("error", (error) => {
        this.#spawnError = error;
        resolve({ code: null, signal: null });
      });
      // The leader of the group has ended. The rest must end too, because it may hold the pipes open.
      this.#process.once("exit", () => this.kill("SIGKILL"));
      this.#process.once("close", (code, signal) => resolve({ code, signal }));
    });
  }

  #ending(): string {
    if (this.#spawnError !== undefined) return `could not be started: ${this.#spawnError.message}`;
    return `ended with ${this.#exit?.signal ?? `exit code ${this.#exit?.code}`} before it was ready`;
  }
}
