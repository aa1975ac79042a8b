/**
 * Token ids to text, as they come. A character may be spread over several tokens, so its text is held back
 * until it is whole: what a reader has is never taken back.
 */
export class Detokenizer {
  readonly #decode: (ids: number[]) => string;
  /** The latest tokens: context for those that follow (a leading space, a character that is not finished). */
  #window: number[] = [];
  /** Length of the part of the window's text that was given out. */
  #given = 0;

  /** @param decode text of a run of ids; an unfinished character at its end shows as one U+FFFD */
  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode;
  }

  /** Text that the token completes, "" while a character is unfinished. */
  push(id: number): string {
    this.#window.push(id);
    const text = this.#decode(this.#window);
    const fresh = text.slice(this.#given, finishedLength(text));
    this.#given += fresh.length;
    if (this.#window.length > WINDOW_TOKENS_MAX) this.#forget();
    return fresh;
  }

  /** What is still held back, at the end of the text. */
  flush(): string {
    const fresh = this.#decode(this.#window).slice(this.#given);
    this.#given += fresh.length;
    return fresh;
  }

  /** Shortens the window, if what stays is context enough. */
  #forget(): void {
    const window = this.#window.slice(-WINDOW_TOKENS_MAX / 2);
    const text = this.#decode(window);
    if (text.length < CONTEXT_CHARS_MIN) return;
    this.#window = window;
    this.#given = finishedLength(text);
  }
}

const WINDOW_TOKENS_MAX = 16;
/** A window may begin inside a character; UTF-8 is in step again after three bytes at most. */
const CONTEXT_CHARS_MIN = 4;

/** U+FFFD at the end may be an unfinished character; before it, all is final. */
function finishedLength(text: string): number {
  return text.endsWith("\uFFFD") ? text.length - 1 : text.length;
}
