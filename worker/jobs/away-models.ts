/** The models whose base is on another server that cannot be used now: their jobs wait, and other models are served. */
import type { Logger } from "pino";
import type { RemoteBaseState } from "../engine-client/messages.ts";

export class AwayModels {
  readonly #log: Logger;
  #reasons: ReadonlyMap<string, string> = new Map();
  #remote: ReadonlySet<string> = new Set();
  /** Texts that are logged, by model. */
  readonly #serverTexts = new Map<string, string>();
  readonly #warned = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Why each of these models cannot be served, by its id. */
  get reasons(): ReadonlyMap<string, string> {
    return this.#reasons;
  }

  /** The models whose base is on another server. */
  get remote(): ReadonlySet<string> {
    return this.#remote;
  }

  /** Takes over what the engine says of its bases, and logs what has changed. */
  update(bases: readonly RemoteBaseState[]): void {
    const before = this.#reasons;
    this.#remote = new Set(bases.map(({ model }) => model));
    this.#reasons = new Map(
      bases.flatMap(({ model, problem }) => (problem === null ? [] : [[model, problem]])),
    );
    for (const { model, problem, warnings, serverText } of bases) {
      if (problem !== null && problem !== before.get(model)) {
        this.#log.warn({ model, reason: problem }, "The base cannot be used: its jobs wait");
      }
      if (problem === null && before.has(model)) this.#log.info({ model }, "The base can be used");
      if (serverText !== null && serverText !== this.#serverTexts.get(model)) {
        this.#serverTexts.set(model, serverText);
        this.#log.warn({ model, text: serverText }, "The base's server has answered an error");
      }
      for (const warning of warnings) this.#warn(`${model}: the base: ${warning}`);
    }
  }

  #warn(warning: string): void {
    if (this.#warned.has(warning)) return;
    this.#warned.add(warning);
    this.#log.warn(warning);
  }
}
