/**
 * Turns token ids into text, token by token. A character may consist of several tokens; its text is held back until it is
 * complete, so text that was returned never changes.
 */
export class Detokenizer {
  readonly #decode: (ids: number[]) => string;
  /** The latest tokens: the next token is decoded after them, for leading spaces and incomplete characters. */
  #window: number[] = [];
  /** UTF-16 units of the window's text that were returned. */
  #returnedLength = 0;

  /** @param decode text of token ids; an incomplete character at the end becomes one U+FFFD */
  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode;
  }

  /** Returns the text that the token completes; "" while a character is incomplete. */
  push(id: number): string {
    this.#window.push(id);
    const decoded = this.#decode(this.#window);
    const text = decoded.slice(this.#returnedLength, completeLength(decoded));
    this.#returnedLength += text.length;
    if (this.#window.length > WINDOW_TOKENS_MAX) this.#shortenWindow();
    return text;
  }

  /** Returns the text that is still held back, at the end of the output. */
  flush(): string {
    const text = this.#decode(this.#window).slice(this.#returnedLength);
    this.#returnedLength += text.length;
    return text;
  }

  /** Shortens the window, unless the rest would be too little context. */
  #shortenWindow(): void {
    const window = this.#window.slice(-WINDOW_TOKENS_MAX / 2);
    const text = this.#decode(window);
    if (text.length < CONTEXT_CHARS_MIN) return;
    this.#window = window;
    this.#returnedLength = completeLength(text);
  }
}

const WINDOW_TOKENS_MAX = 16;
/** A window may begin inside a character; at most its first three bytes are then decoded wrongly. */
const CONTEXT_CHARS_MIN = 4;

/** Length of the text that is final: a U+FFFD at the end may be an incomplete character. */
function completeLength(text: string): number {
  return text.endsWith("\uFFFD") ? text.length - 1 : text.length;
}
