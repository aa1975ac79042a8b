/**
 * Waiting work of several tenants, who take turns: after one item of a tenant, each other tenant that waits gets one. So a
 * tenant with a thousand long prompts delays another one by the prompt that is being tokenized, and not by all of them.
 */
export class Turns<T> {
  /** The tenants that wait, in the order of their turns, with their items in the order of their arrival. */
  readonly #waiting = new Map<string, T[]>();

  add(tenant: string, item: T): void {
    const items = this.#waiting.get(tenant);
    if (items) items.push(item);
    else this.#waiting.set(tenant, [item]);
  }

  /** Takes the next item; undefined if none waits. */
  next(): T | undefined {
    const [first] = this.#waiting;
    if (!first) return undefined;
    const [tenant, items] = first;
    const item = items.shift();
    this.#waiting.delete(tenant);
    if (items.length > 0) this.#waiting.set(tenant, items);
    return item;
  }

  /** Removes the first item that matches, if one does. */
  remove(matches: (item: T) => boolean): void {
    for (const [tenant, items] of this.#waiting) {
      const index = items.findIndex(matches);
      if (index === -1) continue;
      items.splice(index, 1);
      if (items.length === 0) this.#waiting.delete(tenant);
      return;
    }
  }
}
