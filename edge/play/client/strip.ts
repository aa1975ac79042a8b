/** A strip under an answer: a bar for each token. */
import { element, setVariable } from "./dom.ts";

export class Strip {
  readonly #box: HTMLElement;
  readonly #largest: number;

  /** @param largest the value at which a bar is full */
  constructor(box: HTMLElement, largest: number) {
    this.#box = box;
    this.#largest = largest;
  }

  set(position: number, value: number): void {
    const known = this.#box.children[position];
    const bar = known instanceof HTMLElement ? known : element("i");
    if (bar !== known) this.#box.append(bar);
    setVariable(bar, "--share", Math.min(1, Math.abs(value) / this.#largest));
  }

  /** Removes the bars after the first ones, and describes the others. */
  end(count: number, label: string): void {
    while (this.#box.children.length > count) this.#box.lastChild?.remove();
    this.#box.setAttribute("aria-label", label);
    this.#box.title = label;
  }
}
