/**
 * Between token ids and the texts of an API that knows no ids. A token is told apart from others only by its bytes, and a context
 * is given as text. So some tokens cannot be used with such a base: those that end within a character, because no text ends
 * there, and those that have the bytes of another token. They are never sampled.
 */

/** The parts of a vocabulary. */
export interface TokenTexts {
  readonly vocabSize: number;
  readonly eosIds: ReadonlySet<number>;
  /** Bytes that a token adds to the output; null for special tokens and for unused ids. */
  readonly tokenBytes: (id: number) => Uint8Array | null;
  /** The name of a special token; "" for an unused id. */
  readonly tokenText: (id: number) => { readonly token: string };
  /** Ids of a text without added special tokens. */
  readonly encodeCompletion: (text: string) => readonly number[];
}

/** A token as such an API tells it. */
export interface ToldToken {
  readonly token: string;
  /** Absent or null if the API does not tell them. */
  readonly bytes?: readonly number[] | null | undefined;
}

/** Stands for bytes that are no text. */
const REPLACEMENT = "\ufffd";

/** A context that is no text. */
export class NoText extends Error {}

export class TextVocabulary {
  /** Tokens that cannot be used, ascending. */
  readonly unusableIds: readonly number[];
  readonly #texts: TokenTexts;
  readonly #ids = new Map<string, number>();
  readonly #unusable: ReadonlySet<number>;
  /** Whether the tokenizer adds a space to the beginning of a text. */
  readonly #addsSpace: boolean;

  constructor(texts: TokenTexts) {
    this.#texts = texts;
    const unusable = new Set<number>();
    for (let id = 0; id < texts.vocabSize; id++) {
      const bytes = texts.tokenBytes(id);
      if (bytes === null) continue;
      const text = textOf(bytes);
      const other = text === null ? undefined : this.#ids.get(text);
      if (text === null || text === "") unusable.add(id);
      else if (other === undefined) this.#ids.set(text, id);
      else unusable.add(this.#chooseOf(text, other, id));
    }
    for (let id = 0; id < texts.vocabSize; id++) {
      if (texts.tokenBytes(id) !== null) continue;
      const name = texts.tokenText(id).token;
      if (name !== "" && !this.#ids.has(name)) this.#ids.set(name, id);
    }
    this.#unusable = unusable;
    this.unusableIds = [...unusable].toSorted((a, b) => a - b);
    this.#addsSpace = this.#textAt(this.#encode("a")?.[0])?.startsWith(" ") ?? false;
  }

  /** The token of a text; null if it cannot be used. @returns undefined if no token of the tokenizer has it */
  idOf({ token, bytes }: ToldToken): number | null | undefined {
    const text = bytes && bytes.length > 0 ? textOf(Uint8Array.from(bytes)) : escapedText(token);
    if (text === null || text.includes(REPLACEMENT)) return null;
    if (text !== "") return this.#ids.get(text);
    // Some servers give no text to the token that ends a text.
    const [end, another] = this.#texts.eosIds;
    return another === undefined ? end : undefined;
  }

  /** The text of a context, with the names of special tokens. @throws NoText */
  textOf(ids: readonly number[]): string {
    const parts = ids.map((id) => {
      const bytes = this.#texts.tokenBytes(id);
      return bytes ?? Buffer.from(this.#texts.tokenText(id).token);
    });
    const text = textOf(Buffer.concat(parts));
    if (text === null)
      throw new NoText("it takes text, and the tokens so far end within a character");
    return this.#addsSpace && text.startsWith(" ") ? text.slice(1) : text;
  }

  /** Whether the token can be told to the API. */
  isUsable(id: number): boolean {
    return !this.#unusable.has(id);
  }

  /** Of two tokens with one text, the one that the tokenizer does not make of it. Its text becomes that of the other one. */
  #chooseOf(text: string, known: number, id: number): number {
    if (this.#encode(text)?.join() !== String(id)) return id;
    this.#ids.set(text, id);
    return known;
  }

  #encode(text: string): readonly number[] | null {
    try {
      return this.#texts.encodeCompletion(text);
    } catch {
      return null;
    }
  }

  #textAt(id: number | undefined): string | null {
    const bytes = id === undefined ? null : this.#texts.tokenBytes(id);
    return bytes && textOf(bytes);
  }
}

function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** OpenAI's completions tell a token that is no text as `bytes:\\xe2\\x80`. */
function escapedText(token: string): string | null {
  const [, escaped] = /^bytes:((?:\\x[0-9a-f]{2})+)$/.exec(token) ?? [];
  if (escaped === undefined) return token;
  return textOf(Buffer.from(escaped.replaceAll("\\x", ""), "hex"));
}
