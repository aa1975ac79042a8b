/** How far the loading of a manifest's models is: each graph counts once, with its files. */
import { realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { LoadingProgress } from "../../engine-client/loading-progress.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { findGraph } from "./graph-files.ts";
import { isRemote, type Manifest, type ModelEntry } from "./manifest.ts";

export class LoadingMeter {
  readonly #report: (progress: LoadingProgress) => void;
  /** Bytes of each graph that is not loaded yet, by its file. */
  readonly #waiting = new Map<string, number>();
  readonly #of: number;
  readonly #bytesOf: number;

  constructor({ ensembles }: Manifest, report: (progress: LoadingProgress) => void) {
    this.#report = report;
    for (const { base, expert, antiexpert } of ensembles) {
      for (const entry of [base, expert, antiexpert]) {
        const file = isRemote(entry) ? null : graphOf(entry);
        if (file !== null) this.#waiting.set(file, bytesOf(file));
      }
    }
    this.#of = this.#waiting.size;
    this.#bytesOf = sum(this.#waiting.values());
  }

  /** Reports that a model begins to load. */
  begin(entry: ModelEntry): void {
    if (!this.#waiting.has(graphOf(entry) ?? "")) return;
    this.#report({ ...this.#now(), model: entry.path });
  }

  /** Reports that its graph is prepared first. */
  prepare(entry: ModelEntry): void {
    this.#report({ ...this.#now(), model: entry.path, prepares: true });
  }

  /** Reports that it is loaded. */
  end(entry: ModelEntry): void {
    if (!this.#waiting.delete(graphOf(entry) ?? "")) return;
    if (this.#waiting.size === 0) this.#report({ ...this.#now(), model: null });
  }

  #now() {
    return {
      stage: "load" as const,
      loaded: this.#of - this.#waiting.size,
      of: this.#of,
      bytes: this.#bytesOf - sum(this.#waiting.values()),
      bytesOf: this.#bytesOf,
    };
  }
}

/** Null for a model that cannot be loaded: loading it says why. */
function graphOf(entry: ModelEntry): string | null {
  try {
    return realpathSync(findGraph(entry));
  } catch {
    return null;
  }
}

function bytesOf(file: string): number {
  const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  try {
    const weights = inspectGraph(file).externalFiles.map((name) => join(dirname(file), name));
    return sum([file, ...weights].map(sizeOf));
  } catch {
    return sizeOf(file);
  }
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
