/**
 * Finds stop strings in streamed text, also when they span several tokens. The first stop string to be complete ends the
 * text, so the result does not depend on how the text is split. Text that may be the start of a stop string is held back;
 * the stop string itself is never returned.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #heldBack = "";
  #found: string | null = null;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** The stop string that ended the text; null if none did. */
  get found(): string | null {
    return this.#found;
  }

  /** Returns the text that no stop string can contain any more, and whether a stop string ended it. */
  push(text: string): { text: string; stopped: boolean } {
    const all = this.#heldBack + text;
    const first = firstStop(all, this.#stops);
    if (first !== null) {
      this.#heldBack = "";
      this.#found = all.slice(first.start, first.end);
      return { text: all.slice(0, first.start), stopped: true };
    }
    const heldLength = Math.max(0, ...this.#stops.map((stop) => overlap(all, stop)));
    this.#heldBack = all.slice(all.length - heldLength);
    return { text: all.slice(0, all.length - heldLength), stopped: false };
  }

  /** Returns the text that is still held back, at the end of the output. */
  flush(): string {
    const text = this.#heldBack;
    this.#heldBack = "";
    return text;
  }
}

/** Where the stop string is that is complete first (the longest, if several end there); null if there is none. */
function firstStop(text: string, stops: readonly string[]): { start: number; end: number } | null {
  const matches = stops
    .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
    .filter(({ start }) => start >= 0)
    .map(({ start, length }) => ({ start, end: start + length }))
    .sort((a, b) => a.end - b.end || a.start - b.start);
  return matches[0] ?? null;
}

/** Length of the longest suffix of `text` that is a prefix of `stop`, and not all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(stop.length - 1, text.length); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
