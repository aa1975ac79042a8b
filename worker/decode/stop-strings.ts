/**
 * Finds stop strings in streamed text, also across token borders. The first to be complete ends the text, so it does
 * not matter in which pieces the text comes. Text that may turn out to be the start of a stop string is held back;
 * the stop string itself is never given out.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Text that is safe to give out, and whether a stop string ended it. */
  push(text: string): { text: string; stopped: boolean } {
    const all = this.#held + text;
    const start = firstStop(all, this.#stops);
    if (start !== null) {
      this.#held = "";
      return { text: all.slice(0, start), stopped: true };
    }
    const held = Math.max(0, ...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - held);
    return { text: all.slice(0, all.length - held), stopped: false };
  }

  /** What is still held back, at the end of the text. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}

/** Where the stop string begins that is complete first, the longest of those; null if there is none. */
function firstStop(text: string, stops: readonly string[]): number | null {
  const found = stops
    .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
    .filter(({ start }) => start >= 0)
    .map(({ start, length }) => ({ start, end: start + length }))
    .sort((a, b) => a.end - b.end || a.start - b.start);
  return found[0]?.start ?? null;
}

/** Length of the longest end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
