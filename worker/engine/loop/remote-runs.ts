/** The sequences of a batch whose base is remote (remote-run.ts), and the wait for their calls. */
import type { RemoteBase } from "../remote/remote-base.ts";
import { BaseLoad } from "./remote-load.ts";
import type { ModelInput } from "./remote-path.ts";
import type { ForcedDrafter } from "./remote-policy.ts";
import { RemoteRun } from "./remote-run.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";

export class RemoteRuns {
  readonly #runs = new Map<Sequence, RemoteRun>();
  readonly #drafter: ForcedDrafter | null;
  /** Of each base: its sequences share its load. */
  readonly #loads = new Map<RemoteBase, BaseLoad>();
  #wake = (): void => {};
  #arrival: Promise<void>;

  /** @param drafter null to choose by what is measured; changes the calls, never the tokens */
  constructor(drafter: ForcedDrafter | null) {
    this.#drafter = drafter;
    this.#arrival = this.#nextArrival();
  }

  add(sequence: Sequence, base: RemoteBase): void {
    const load = this.#loads.get(base) ?? new BaseLoad();
    this.#loads.set(base, load);
    const run = new RemoteRun(sequence, base, load, this.#drafter, () => this.wake());
    this.#runs.set(sequence, run);
    sequence.remote = run.counts;
    skipBasePrefill(sequence);
  }

  /** After the sequence's own restart; a call that is under way goes on. Nothing without a remote base. */
  restart(sequence: Sequence): void {
    const run = this.#runs.get(sequence);
    if (!run) return;
    run.restart();
    skipBasePrefill(sequence);
  }

  has(sequence: Sequence): boolean {
    return this.#runs.has(sequence);
  }

  /** Aborts the sequence's calls. */
  remove(sequence: Sequence): void {
    this.#runs.get(sequence)?.close();
    this.#runs.delete(sequence);
  }

  /** Whether a sequence can do nothing before a call ends. */
  isWaiting(sequence: Sequence): boolean {
    return this.#runs.get(sequence)?.isReady === false;
  }

  /** Resolves at the next `wake`, or at once if there was one since the last time. */
  async arrival(): Promise<void> {
    await this.#arrival;
    this.#arrival = this.#nextArrival();
  }

  wake(): void {
    this.#wake();
  }

  pairInputs(sequences: readonly Sequence[]): ModelInput[] {
    return sequences.flatMap((sequence) => this.#runs.get(sequence)!.pairInputs());
  }

  advance(sequences: readonly Sequence[], logits: ReadonlyMap<ModelState, Float32Array>): Step[] {
    return sequences.flatMap((sequence) =>
      this.#runs.get(sequence)!.advance((model) => logits.get(model)!),
    );
  }

  #nextArrival(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }
}

/** The server caches the prompt itself; the last token is all that a call adds. */
function skipBasePrefill({ modelStates: [base] }: Sequence): void {
  base!.pendingTokens = base!.pendingTokens.slice(-1);
}
