/** Changes the ensembles that the prepare thread and the engine thread serve. */
import type { Worker } from "node:worker_threads";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import type {
  AddEnsembles,
  EnsemblesChanged,
  ManifestRead,
  ManifestRefused,
  RemoveEnsembles,
} from "./change-messages.ts";
import type { FromEngine, FromPrepare, ToEngine, ToPrepare } from "./messages.ts";

/** Why a changed manifest is not followed. */
export class ManifestNotFollowed extends Error {
  /** Whether the manifest is wrong, or needs a restart; otherwise loading it has failed. */
  readonly isRefused: boolean;

  constructor(reason: string, isRefused: boolean) {
    super(reason);
    this.isRefused = isRefused;
  }
}

type Reply = ManifestRead | ManifestRefused;

export class EnsembleChanges {
  #cards: readonly ModelCard[];
  readonly #threads: Readonly<Record<"prepare" | "engine", Worker>>;
  readonly #reads: PromiseWithResolvers<Reply>[] = [];
  readonly #changes: PromiseWithResolvers<EnsemblesChanged>[] = [];

  constructor(
    threads: Readonly<Record<"prepare" | "engine", Worker>>,
    cards: readonly ModelCard[],
  ) {
    this.#threads = threads;
    this.#cards = cards;
    threads.prepare.on("message", (message: FromPrepare) => {
      if (message.type === "manifestRead" || message.type === "manifestRefused") {
        this.#reads.shift()?.resolve(message);
      }
    });
    threads.engine.on("message", (message: FromEngine) => {
      if (message.type === "changed") this.#changes.shift()?.resolve(message);
      if (message.type === "changeFailed") {
        this.#changes.shift()?.reject(new ManifestNotFollowed(message.reason, false));
      }
    });
  }

  /** The ensembles that are served. */
  get cards(): readonly ModelCard[] {
    return this.#cards;
  }

  /** Reads the manifest again. @throws ManifestNotFollowed if it is refused */
  async readManifest(): Promise<ManifestRead> {
    const read = Promise.withResolvers<Reply>();
    this.#reads.push(read);
    this.#threads.prepare.postMessage({ type: "readManifest" } satisfies ToPrepare);
    const reply = await read.promise;
    if (reply.type === "manifestRead") return reply;
    throw new ManifestNotFollowed(reply.reason, true);
  }

  /** Adds the new ensembles of a manifest. @returns warnings @throws ManifestNotFollowed if they cannot be loaded */
  async add({ ids, entries }: ManifestRead["added"]): Promise<readonly string[]> {
    try {
      const { cards, warnings } = await this.#change({ type: "add", entries });
      this.#cards = [...this.#cards, ...cards];
      return warnings;
    } catch (error) {
      this.#threads.prepare.postMessage({ type: "remove", ids } satisfies ToPrepare);
      throw error;
    }
  }

  /** From now on no cards show these ensembles. Their runs go on, and new ones start. */
  hide(ids: readonly string[]): void {
    this.#cards = this.#cards.filter(({ id }) => !ids.includes(id));
  }

  /** Removes ensembles, of which nothing runs any more. @throws ManifestNotFollowed if their adapters stay in memory */
  async remove(ids: readonly string[]): Promise<void> {
    this.#threads.prepare.postMessage({ type: "remove", ids } satisfies ToPrepare);
    await this.#change({ type: "remove", ids });
  }

  #change(message: AddEnsembles | RemoveEnsembles): Promise<EnsemblesChanged> {
    const change = Promise.withResolvers<EnsemblesChanged>();
    this.#changes.push(change);
    this.#threads.engine.postMessage(message satisfies ToEngine);
    return change.promise;
  }
}
