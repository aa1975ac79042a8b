/**
 * Who may run beside whom. Everybody enters together, but one who asks to be alone: it waits until all have left, and who
 * comes later waits for it.
 */
export class Gate {
  #inside = 0;
  #isClosed = false;
  readonly #waiting: { readonly alone: boolean; readonly enter: () => void }[] = [];

  /** Resolves to what is to be called on leaving, once. */
  async enter(alone: boolean): Promise<() => void> {
    await new Promise<void>((enter) => {
      this.#waiting.push({ alone, enter });
      this.#admit();
    });
    return () => {
      this.#inside--;
      this.#isClosed = false;
      this.#admit();
    };
  }

  /** In the order in which they came, so that nobody is overtaken for ever. */
  #admit(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (this.#isClosed || (next.alone && this.#inside > 0)) return;
      this.#waiting.shift();
      this.#inside++;
      this.#isClosed = next.alone;
      next.enter();
    }
  }
}
