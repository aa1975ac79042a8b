/**
 * Knows whether a base can be used now, and whether it is still the one that was checked. It is checked before its first use, as a
 * whole again after it was away, and for its rows alone after a connection ended. While it is away or does not fit, it is checked
 * every few seconds.
 */
import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../../../shared/api/errors.ts";
import type { BaseRow } from "./base-row.ts";
import { haveSameRows, isAway, isSame, probe, type ProbeResult } from "./probe.ts";
import type { Expected, Prober } from "./prober.ts";

/** A server that closes each connection is not compared more often than this. */
const COMPARE_MS_MIN = 5_000;
/** Time between two checks of a base that cannot be used: it doubles up to the maximum. */
const RETRY_MS = 500;
const RETRY_MAX_MS = 5_000;

/** Possible events since the last check. */
type Suspicion = "disconnected" | "away";

export interface BaseWatchOptions {
  /** One for each form of the API; the first that passes is used from then on. */
  readonly probers: readonly Prober[];
  /** Called with the index of that form. */
  readonly onForm: (form: number) => void;
  readonly expected: Expected;
  /** The base's name in errors. */
  readonly name: string;
  /** Called when `problem` has changed. */
  readonly onChange: () => void;
}

export class BaseWatch {
  readonly #options: BaseWatchOptions;
  #problem: string | null = null;
  #warnings: readonly string[] = [];
  #suspicion: Suspicion | null = "away";
  #prober: Prober | null = null;
  /** Rows of the first check. */
  #reference: readonly BaseRow[] | null = null;
  #checkedMs = 0;
  /** A check that is under way: all calls wait for it. */
  #check: Promise<void> | null = null;
  readonly #closed = new AbortController();
  #isWatching = false;

  constructor(options: BaseWatchOptions) {
    this.#options = options;
  }

  /** Why the base cannot be used now; null if it can. */
  get problem(): string | null {
    return this.#problem;
  }

  /** The result of the last check of the whole base, for the log. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /**
   * The first check. If the base is away, or is not checked within the time, it is checked again until it can be used.
   * @throws Error with reason and remedy if it does not fit
   */
  async open(waitMs: number): Promise<void> {
    const late = delay(waitMs, "late", { signal: this.#closed.signal }).catch(() => "late");
    const checked = this.ready().then(() => "checked");
    // One that is late is looked at again; its error is told then.
    checked.catch(() => {});
    try {
      const result = await Promise.race([checked, late]);
      if (result === "late") this.away("it is not checked yet");
    } catch (error) {
      if (!isAway(error)) throw error;
      this.away(error.message);
    }
  }

  /**
   * Checks the base if it may have become another one.
   * @throws AppError base_failed, base_unavailable
   */
  async ready(): Promise<void> {
    if (this.#suspicion === null) return;
    this.#check ??= this.#checkNow(this.#suspicion).finally(() => {
      this.#check = null;
    });
    await this.#check;
  }

  /** It did not answer, so it may come back as another one. */
  suspect(): void {
    this.#suspicion = "away";
  }

  /** A connection has ended: behind the next one may be another process. */
  disconnected(): void {
    if (performance.now() - this.#checkedMs > COMPARE_MS_MIN) this.#suspicion ??= "disconnected";
  }

  /** It has not answered for a while: it is not used until it fits again. */
  away(reason: string): void {
    this.suspect();
    this.#setProblem(reason);
    if (!this.#isWatching) void this.#watch();
  }

  close(): void {
    this.#closed.abort();
  }

  async #watch(): Promise<void> {
    const { signal } = this.#closed;
    this.#isWatching = true;
    for (let waitMs = RETRY_MS; this.#problem !== null && !signal.aborted; waitMs *= 2) {
      await delay(Math.min(RETRY_MAX_MS, waitMs), undefined, { signal }).catch(() => {});
      await this.ready().catch(() => {});
    }
    this.#isWatching = false;
  }

  async #checkNow(suspicion: Suspicion): Promise<void> {
    const { name } = this.#options;
    try {
      const isSameBase =
        suspicion === "disconnected" ? await this.#compareRows() : await this.#probeAll();
      if (!isSameBase) {
        throw new AppError(
          "base_failed",
          `The base model ${name}: another model answers under its name since it was away`,
        );
      }
      // Meanwhile it may have been away again.
      if (this.#suspicion === suspicion) this.#suspicion = null;
      this.#checkedMs = performance.now();
      this.#setProblem(null);
    } catch (error) {
      const { message } = error as Error;
      const isFirst = this.#reference === null;
      const failure =
        error instanceof AppError || isFirst
          ? error
          : new AppError("base_failed", `The base model ${name} does not fit: ${message}`);
      // At the start, the caller decides what becomes of a base that does not fit.
      if (!isFirst || this.#isWatching) this.away((failure as Error).message);
      throw failure;
    }
  }

  async #compareRows(): Promise<boolean> {
    return isSame(this.#prober!, this.#options.expected, this.#reference!);
  }

  /** Whether it is the base of the first check. @throws Error with reason and remedy if it does not fit */
  async #probeAll(): Promise<boolean> {
    const { reference, warnings } = await this.#probeForms();
    this.#warnings = warnings;
    const first = this.#reference;
    this.#reference ??= reference;
    return first === null || haveSameRows(reference, first);
  }

  /** @throws the error of the first form if none passes */
  async #probeForms(): Promise<ProbeResult> {
    const { probers, expected, onForm } = this.#options;
    if (this.#prober) return probe(this.#prober, expected);
    const errors: unknown[] = [];
    for (const [form, prober] of probers.entries()) {
      try {
        const result = await probe(prober, expected);
        this.#prober = prober;
        onForm(form);
        return result;
      } catch (error) {
        if (isAway(error)) throw error;
        errors.push(error);
      }
    }
    throw errors[0];
  }

  #setProblem(problem: string | null): void {
    if (this.#problem === problem) return;
    this.#problem = problem;
    this.#options.onChange();
  }
}
