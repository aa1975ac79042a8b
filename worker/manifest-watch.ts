/**
 * Follows the manifest while the worker runs: it is read again when its file changes and on SIGHUP. Ensembles with new adapters of models
 * that are loaded are added, and those that it lacks are removed when their jobs have ended. A change that needs more is refused as a
 * whole, and what is served stays.
 */
import { unwatchFile, watchFile } from "node:fs";
import type { Logger } from "pino";
import { ManifestNotFollowed, type EnsembleChanges } from "./engine-client/ensemble-changes.ts";
import { endsOnHangup } from "./processes/stop-signal.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** Interval at which the file's time is compared, also if it is a link to another folder (a ConfigMap of Kubernetes). */
const POLL_MS = 2_000;

export interface ManifestWatchDeps {
  /** The manifest. */
  readonly file: string;
  readonly changes: Pick<EnsembleChanges, "readManifest" | "add" | "hide" | "remove">;
  /** Serves the ensembles that the engine shows now. Resolves when no job of another one runs. */
  readonly serve: () => Promise<unknown>;
  /** Gets the text of each manifest that is followed. */
  readonly onFollowed: (text: string) => void;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "manifestRead">;
}

export class ManifestWatch {
  readonly #deps: ManifestWatchDeps;
  /** Ensembles whose last jobs run, by id, and their ends. */
  readonly #ending = new Map<string, Promise<void>>();
  #reading: Promise<void> | null = null;
  #isChanged = false;
  readonly #onChange = () => void this.read();

  constructor(deps: ManifestWatchDeps) {
    this.#deps = deps;
    watchFile(deps.file, { interval: POLL_MS }, this.#onChange);
    if (endsOnHangup()) return;
    process.on("SIGHUP", this.#onChange);
  }

  close(): void {
    unwatchFile(this.#deps.file, this.#onChange);
    process.removeListener("SIGHUP", this.#onChange);
  }

  /** Reads the manifest, and resolves when it is followed or refused. */
  read(): Promise<void> {
    this.#isChanged = true;
    this.#reading ??= this.#readAll().finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #readAll(): Promise<void> {
    const { log, metrics } = this.#deps;
    while (this.#isChanged) {
      this.#isChanged = false;
      try {
        metrics.manifestRead(await this.#follow());
      } catch (error) {
        const isRefused = error instanceof ManifestNotFollowed && error.isRefused;
        metrics.manifestRead(isRefused ? "refused" : "failed");
        const reason = error instanceof Error ? error.message : String(error);
        log.error({ reason }, "The changed manifest is not followed: what is served stays");
      }
    }
  }

  async #follow(): Promise<"unchanged" | "applied"> {
    const { changes, serve, onFollowed, log } = this.#deps;
    const { ids, text, added, removed } = await changes.readManifest();
    const back = ids.filter((id) => this.#ending.has(id));
    if (back.length > 0) {
      log.info(
        { models: back },
        "The manifest has ensembles again whose last jobs run: they are added when these have ended",
      );
    }
    const ended = removed.filter((id) => !this.#ending.has(id));
    if (added.ids.length === 0 && ended.length === 0) return "unchanged";
    if (added.ids.length > 0) {
      for (const warning of await changes.add(added)) log.warn(warning);
    }
    changes.hide(ended);
    onFollowed(text);
    const end = this.#end(ended, serve());
    for (const id of ended) this.#ending.set(id, end);
    log.info({ added: added.ids, removed: ended }, "The worker follows the changed manifest");
    return "applied";
  }

  /**
   * Removes ensembles from the engine when their jobs have ended. Then the manifest is read again: it may have these ensembles again, or may
   * have been refused because they were still there.
   */
  async #end(ids: readonly string[], jobsEnded: Promise<unknown>): Promise<void> {
    const { changes, log } = this.#deps;
    let isRemoved = false;
    try {
      await jobsEnded;
      isRemoved = ids.length > 0;
      if (isRemoved) await changes.remove(ids);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.error({ reason, models: ids }, "Adapters of removed ensembles stay in memory");
    }
    for (const id of ids) this.#ending.delete(id);
    if (isRemoved) void this.read();
  }
}
