/**
 * Token ids to text, as they come. A character may be spread over several tokens, so text is held back
 * until it is whole: what a reader has is never taken back.
 */
export class Detokenizer {
  readonly #decode: (ids: number[]) => string;
  readonly #ids: number[] = [];
  /** ids before this index only give context to what follows (a leading space, a joined character). */
  #contextStart = 0;
  /** ids before this index have been given out as text. */
  #given = 0;

  /** @param decode text of a run of ids; incomplete UTF-8 shows as U+FFFD */
  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode;
  }

  /** Text that the token completes, "" while a character is unfinished. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#pending();
    // U+FFFD at the end is an unfinished character. After four tokens of waiting it is a broken one.
    if (text.endsWith("\uFFFD") && this.#ids.length - this.#given < UTF8_BYTES_MAX) return "";
    this.#contextStart = this.#given;
    this.#given = this.#ids.length;
    return text;
  }

  /** What is still held back, at the end of the text. */
  flush(): string {
    const text = this.#pending();
    this.#given = this.#ids.length;
    return text;
  }

  #pending(): string {
    const context = this.#decode(this.#ids.slice(this.#contextStart, this.#given));
    return this.#decode(this.#ids.slice(this.#contextStart)).slice(context.length);
  }
}

/** A character has at most four bytes, and a token at least one. */
const UTF8_BYTES_MAX = 4;
