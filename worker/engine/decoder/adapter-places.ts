/** Which adapter each open sequence of a decoder uses, and where the graph has it. */
import type { Slot } from "./kv-cache.ts";

export class AdapterPlaces {
  /** Numbers of the adapters of open sequences that use one. */
  readonly #numbers = new Map<Slot, number>();
  /** Number of an adapter -> its index in the graph; null while the graph is the first one, where they are the same. */
  #indexes: ReadonlyMap<number, number> | null = null;

  /** Whether the graph took the place of another one. */
  get isMoved(): boolean {
    return this.#indexes !== null;
  }

  move(indexes: ReadonlyMap<number, number>): void {
    this.#indexes = indexes;
  }

  /** @param number of one of the graph's adapters; absent for none */
  open(slot: Slot, number: number | undefined): void {
    if (number !== undefined) this.#numbers.set(slot, number);
  }

  close(slot: Slot): void {
    this.#numbers.delete(slot);
  }

  /**
   * @returns undefined for a sequence without an adapter
   * @throws Error if the graph does not have its adapter any more: another's weights must not take its place
   */
  indexOf(slot: Slot): number | undefined {
    const number = this.#numbers.get(slot);
    if (number === undefined || this.#indexes === null) return number;
    const index = this.#indexes.get(number);
    if (index !== undefined) return index;
    throw new Error(`The graph does not have the adapter ${number} any more`);
  }
}
