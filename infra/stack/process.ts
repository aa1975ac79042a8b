/**
 * Child processes that are ready when we say so and never outlive us.
 * Each has a process group of its own: a Ctrl-C in the terminal reaches us alone, and what the child itself starts
 * (wrangler starts workerd and esbuild) ends with it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { holdGroup } from "./leash.ts";
import { Problem } from "./problem.ts";

/** Lines of a child's output that an error shows. */
const TAIL_LINES = 20;
/** Characters kept, so that a talkative child costs no memory. */
const TAIL_CHARS = 16_384;
const POLL_MS = 100;

export interface ChildOptions {
  /** As messages call it. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Time from SIGTERM to SIGKILL when it is stopped. */
  readonly graceMs?: number;
  /** Whether its output goes straight to our own; then none is kept. */
  readonly inherit?: boolean;
  /** Called once when it has ended, however that came. */
  readonly cleanUp?: () => Promise<void>;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** All that live now, oldest first. */
const living = new Set<Child>();

/** Ends every child, the youngest first, because the later ones use the earlier. */
export async function stopAllChildren(): Promise<void> {
  for (const child of [...living].toReversed()) await child.stop();
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
    const output = options.inherit === true ? "inherit" : "pipe";
    this.#process = spawn(options.command, options.args, {
      detached: true,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", output, output],
    });
    living.add(this);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output = (this.#output + text).slice(-TAIL_CHARS);
      });
    }
    const letGo = this.pid === undefined ? () => {} : holdGroup(this.pid);
    this.exited = this.#ended().then(async (exit) => {
      letGo();
      await options.cleanUp?.();
      this.#exit = exit;
      living.delete(this);
      return exit;
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** The last of its output, standard output and error together. */
  get output(): string {
    return this.#output.trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  }

  /** Of its output all that is kept. */
  get outputKept(): string {
    return this.#output;
  }

  /** Sends a signal to the whole group; does nothing once that is empty. */
  kill(signal: NodeJS.Signals): void {
    if (this.pid === undefined || !this.running) return;
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /** SIGTERM, and SIGKILL after the grace time; resolves when it has ended. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), this.#graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  /** Resolves when the URL answers 200. */
  waitForUrl(url: string, deadlineMs: number): Promise<void> {
    return this.waitFor(`${url} to answer 200`, deadlineMs, async () => {
      const reply = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      await reply.body?.cancel();
      return reply.status === 200;
    });
  }

  /**
   * Resolves when the probe gives true; a probe that throws is asked again.
   * If the process ends first, or the time is up, it is stopped and the error shows the last of its output.
   */
  async waitFor(
    what: string,
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
    const why = this.running
      ? `${this.name}: waited ${deadlineMs / 1000} s for ${what}`
      : `${this.name} ${this.#ending()}`;
    await this.stop();
    throw new Problem(this.output === "" ? why : `${why}; it last said:\n${this.output}`);
  }

  #ended(): Promise<Exit> {
    return new Promise((resolve) => {
      this.#process.once("error", (error) => {
        this.#spawnError = error;
        resolve({ code: null, signal: null });
      });
      // The leader is gone; nothing of its group may stay, or the pipes stay open with it.
      this.#process.once("exit", () => this.kill("SIGKILL"));
      this.#process.once("close", (code, signal) => resolve({ code, signal }));
    });
  }

  #ending(): string {
    if (this.#spawnError !== undefined) return `could not be started: ${this.#spawnError.message}`;
    return `ended with ${this.#exit?.signal ?? `exit code ${this.#exit?.code}`} before it was ready`;
  }
}
