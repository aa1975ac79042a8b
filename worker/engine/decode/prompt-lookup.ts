/**
 * Prompt lookup decoding: drafts what followed the latest earlier occurrence of the text's last three tokens. An index of all
 * trigrams grows with the text, so a new token costs the same after a short and after a long prompt. It takes about 50 bytes for each
 * token of the text, far less than a KV cache.
 */

/** Tokens of the n-gram that is searched for. */
const LOOKUP_TOKENS = 3;
/** Odd, with bits that look random: few trigrams of a text get the same key. */
const MULTIPLIER = 0x9e3779b1;

export class PromptLookup {
  readonly #prompt: readonly number[];
  readonly #output: readonly number[];
  /** The position after the latest occurrence of each trigram. */
  readonly #positions = new Map<number, number>();
  /** Tokens of the text that are in the index. */
  #indexed = 0;
  /** The position after the earlier occurrence of the last three indexed tokens; null if there is none. */
  #found: number | null = null;
  /** The same before the last indexed token. */
  #foundBefore: number | null = null;

  /** @param output tokens may be added to it, and not removed */
  constructor(prompt: readonly number[], output: readonly number[]) {
    this.#prompt = prompt;
    this.#output = output;
  }

  /** Tokens of the text. */
  get length(): number {
    return this.#prompt.length + this.#output.length;
  }

  /** Up to `count` tokens that followed the latest earlier occurrence of the last three tokens; [] if there is none. */
  find(count: number): number[] {
    this.#index();
    const start = this.#found ?? this.length;
    const drafts: number[] = [];
    for (let at = start; at < Math.min(this.length, start + count); at++) drafts.push(this.#at(at));
    return drafts;
  }

  /** The draft that the last token would have had; null if there is none. */
  get draftOfLast(): number | null {
    this.#index();
    return this.#foundBefore === null ? null : this.#at(this.#foundBefore);
  }

  #index(): void {
    const { length } = this;
    while (this.#indexed < length) {
      this.#foundBefore = this.#found;
      this.#found = this.#add(++this.#indexed);
    }
  }

  /** Adds the trigram that ends before a position. Returns the position after its latest earlier occurrence; null if there is none. */
  #add(end: number): number | null {
    if (end < LOOKUP_TOKENS) return null;
    let key = 0;
    for (let at = end - LOOKUP_TOKENS; at < end; at++) {
      key = (Math.imul(key, MULTIPLIER) + this.#at(at)) | 0;
    }
    const earlier = this.#positions.get(key);
    this.#positions.set(key, end);
    return earlier !== undefined && this.#isSame(earlier, end) ? earlier : null;
  }

  /** Whether the same three tokens end before both positions: other ones may have the same key. */
  #isSame(a: number, b: number): boolean {
    for (let i = 1; i <= LOOKUP_TOKENS; i++) if (this.#at(a - i) !== this.#at(b - i)) return false;
    return true;
  }

  #at(position: number): number {
    const { length } = this.#prompt;
    return position < length ? this.#prompt[position]! : this.#output[position - length]!;
  }
}
