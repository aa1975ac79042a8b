/**
 * Compiles response formats on a thread of its own, so that no request or stream waits for them: the first part of a schema alone, which
 * cannot be divided, takes up to 130 ms.
 */
import * as fs from "node:fs";
import * as os from "node:os";
import * as v8 from "node:v8";
import { Worker } from "node:worker_threads";
import type { Grammar } from "../../shared/grammar/rules/grammar.ts";
import type { CompiledRules } from "../../shared/submission/output-grammars.ts";
import { refusalError, type Refusal } from "../../shared/submission/refusal.ts";
import { lowerHelperPriority } from "../../shared/threads/priority.ts";
import type { DoneElsewhere } from "../http/compile-elsewhere.ts";

export interface CompileRequest {
  readonly id: number;
  /** Format and tools as JSON. */
  readonly rules: string;
}

export interface CompileReply {
  readonly id: number;
  /** Processor time of the thread. */
  readonly spentMs: number;
  /** As JSON. */
  readonly grammar?: string;
  readonly refusal?: Refusal;
  /** Another error, for the log. */
  readonly failure?: string;
}

export type FromCompileThread = CompileReply | { readonly warning: string };

/** A part of a format takes 130 ms at most. A thread without a reply for so long does not work any more. */
const HANG_MS = 30_000;

type Waiting = PromiseWithResolvers<DoneElsewhere<CompiledRules>>;

export class FormatCompiler {
  readonly #waiting = new Map<number, Waiting>();
  readonly #onWarning: (warning: string) => void;
  #thread: Worker | null = null;
  #hang: NodeJS.Timeout | undefined;
  #lastId = 0;

  /** @param onWarning called if a thread keeps its priority or ends */
  constructor(onWarning: (warning: string) => void) {
    this.#onWarning = onWarning;
    for (const warning of lowerHelperPriority({ fs, os, v8 })) onWarning(warning);
  }

  /**
   * Starts the thread if there is none: an edge without formats does without its 30 MB.
   * @param rules of `CompileRules`
   * @throws Error if the thread ends meanwhile, or has to be ended because it gives no reply; the next format gets another one
   */
  compile(rules: string): Promise<DoneElsewhere<CompiledRules>> {
    const waiting: Waiting = Promise.withResolvers();
    const id = ++this.#lastId;
    this.#waiting.set(id, waiting);
    this.#thread ??= this.#startThread();
    this.#thread.postMessage({ id, rules } satisfies CompileRequest);
    if (this.#waiting.size === 1) this.#watch();
    return waiting.promise;
  }

  /** Ends the thread if it gives no reply from now on. */
  #watch(): void {
    clearTimeout(this.#hang);
    if (this.#waiting.size === 0) return;
    this.#hang = setTimeout(() => void this.#thread?.terminate(), HANG_MS).unref();
  }

  #startThread(): Worker {
    const thread = new Worker(new URL("compile-thread.ts", import.meta.url), { name: "compile" });
    let reason: Error | null = null;
    thread.on("message", (reply: FromCompileThread) => {
      if ("warning" in reply) return this.#onWarning(reply.warning);
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      this.#watch();
      waiting?.resolve({ spentMs: reply.spentMs, result: () => resultOf(reply) });
    });
    thread.on("error", (error: Error) => (reason = error));
    thread.on("exit", () => {
      this.#thread = null;
      clearTimeout(this.#hang);
      const error = new Error("The thread that compiles response formats has ended", {
        cause: reason,
      });
      this.#onWarning(`${error.message}: ${reason?.message ?? "it gave no reply"}`);
      for (const waiting of this.#waiting.values()) waiting.reject(error);
      this.#waiting.clear();
    });
    // It does not keep a process alive that has nothing else to do.
    thread.unref();
    return thread;
  }
}

function resultOf({ grammar, refusal, failure }: CompileReply): CompiledRules {
  if (refusal) throw refusalError(refusal);
  if (grammar === undefined) throw new Error(`A response format was not compiled: ${failure}`);
  return { grammar: JSON.parse(grammar) as Grammar | null, chars: grammar.length };
}
