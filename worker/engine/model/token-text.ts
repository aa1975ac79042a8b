/**
 * Computes the bytes of a single token from its entry in the vocabulary. A tokenizer cannot do this, because it decodes
 * sequences of tokens to text: a token may be part of a character, or start with a space that is lost if decoded alone.
 */

/** A token's text. If its bytes are not whole characters, they are escaped as `\\xf0\\x9f` and also given as `bytes`. */
export interface TokenText {
  readonly token: string;
  readonly bytes?: readonly number[];
}

/** The `decoder` of tokenizer.json: how entries of the vocabulary become text. */
export interface TokenizerDecoderSpec {
  readonly type?: string;
  readonly decoders?: readonly TokenizerDecoderSpec[];
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
}

/** Returns a function from a token's entry in the vocabulary to its bytes. It is not for special tokens, which have no text. */
export function entryDecoder(decoder: TokenizerDecoderSpec | null): (entry: string) => Uint8Array {
  const steps = decoderSteps(decoder);
  if (isByteLevel(decoder)) return (entry) => byteLevelBytes(entry);
  const hasByteFallback = steps.some(({ type }) => type === "ByteFallback");
  const replacements = steps.flatMap(({ type, pattern, content }) =>
    type === "Replace" && pattern?.String ? [[pattern.String, content ?? ""] as const] : [],
  );
  if (steps.some(({ type }) => type === "Metaspace")) replacements.push(["\u2581", " "]);
  return (entry) => {
    const byte = hasByteFallback ? /^<0x([0-9A-F]{2})>$/.exec(entry)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return utf8Bytes(replacements.reduce((text, [from, to]) => text.replaceAll(from, to), entry));
  };
}

/** Whether each character of an entry stands for a byte. */
export const isByteLevel = (decoder: TokenizerDecoderSpec | null) =>
  decoderSteps(decoder).some(({ type }) => type === "ByteLevel");

/** @param bytes of one token */
export function tokenTextFromBytes(bytes: Uint8Array): TokenText {
  try {
    return { token: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    const escaped = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`);
    return { token: escaped.join(""), bytes: [...bytes] };
  }
}

export const utf8Bytes = (text: string) => new TextEncoder().encode(text);

function decoderSteps(decoder: TokenizerDecoderSpec | null): readonly TokenizerDecoderSpec[] {
  if (decoder === null) return [];
  return decoder.type === "Sequence" ? (decoder.decoders ?? []).flatMap(decoderSteps) : [decoder];
}

/** Each character of an entry stands for one byte. An entry with any other character is plain text. */
function byteLevelBytes(entry: string): Uint8Array {
  const bytes = Array.from(entry, (character) => BYTE_LEVEL_BYTES.get(character));
  return bytes.includes(undefined) ? utf8Bytes(entry) : Uint8Array.from(bytes as number[]);
}

/** GPT-2's table: printable bytes are represented by themselves, the others by the characters from U+0100 on, in order. */
export const BYTE_LEVEL_BYTES = new Map<string, number>();
for (let byte = 0, substitute = 0x100; byte < 256; byte++) {
  const printable =
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_LEVEL_BYTES.set(String.fromCodePoint(printable ? byte : substitute++), byte);
}
