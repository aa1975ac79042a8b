/** A vocabulary as large as those of today's models, made from the texts that are measured: a model's own would have to be fetched. */

const SIZE = 151_936;
/** Longer words are no tokens, as with real vocabularies. One text of 5,000 spaces would make `LongestTokens` try as many lengths at each place. */
const CHARS_MAX = 64;

/** @param texts whose words become tokens, the most frequent first; the bytes are before them */
export function vocabularyOf(texts: Iterable<string>, size = SIZE): Uint8Array[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(/ ?\p{L}+|\d{1,3}| ?[^\s\p{L}\d]{1,4}|\s+/gu) ?? []) {
      for (const part of new Set([word.slice(0, CHARS_MAX), word.slice(0, 4), word.slice(0, 7)])) {
        counts.set(part, (counts.get(part) ?? 0) + 1);
      }
    }
  }
  const frequent = [...counts].toSorted((a, b) => b[1] - a[1]).map(([word]) => word);
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  const encoder = new TextEncoder();
  const words = frequent.slice(0, size / 2).map((word) => encoder.encode(word));
  const others = Array.from({ length: size - bytes.length - words.length }, (_, i) =>
    encoder.encode(madeUp(i)),
  );
  return [...bytes, ...words, ...others];
}

/** Words of no language: letters in base 26, every third with a space before it, and every seventh of other scripts. */
function madeUp(index: number): string {
  if (index % 7 === 0) return String.fromCodePoint(0x4e00 + ((index / 7) % 20_000), 0x3042);
  let word = "";
  for (let rest = index + 26 ** 2; rest > 0; rest = Math.floor(rest / 26)) {
    word += String.fromCharCode(97 + (rest % 26));
  }
  return index % 3 === 0 ? ` ${word}` : word;
}

/** Cuts texts into the longest tokens of a vocabulary. */
export class LongestTokens {
  readonly #tokens: ReadonlySet<string>;
  readonly #bytesMax: number;

  constructor(vocabulary: readonly Uint8Array[]) {
    this.#tokens = new Set(vocabulary.map((bytes) => Buffer.from(bytes).toString("latin1")));
    this.#bytesMax = vocabulary.reduce((max, { length }) => Math.max(max, length), 0);
  }

  *of(text: string): Generator<Uint8Array> {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length;) {
      let end = Math.min(bytes.length, at + this.#bytesMax);
      while (end > at + 1 && !this.#tokens.has(bytes.toString("latin1", at, end))) end--;
      yield bytes.subarray(at, end);
      at = end;
    }
  }
}
