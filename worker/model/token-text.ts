/**
 * The bytes of a single token. A tokenizer decodes runs of tokens to text, and a token may be less than a character or
 * begin with a space that decoding it alone would lose; its entry in the vocabulary tells all.
 */

/** A token's text; where its bytes are not whole characters, escaped as `\\xf0\\x9f`, and then the bytes too. */
export interface TokenText {
  readonly token: string;
  readonly bytes?: readonly number[];
}

/** The part of tokenizer.json that says how entries of the vocabulary become text. */
export interface DecoderSpec {
  readonly type?: string;
  readonly decoders?: readonly DecoderSpec[];
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
}

/** Returns what reads the bytes of an ordinary token from its entry in the vocabulary. */
export function entryReader(decoder: DecoderSpec | null): (entry: string) => Uint8Array {
  const steps = stepsOf(decoder);
  if (steps.some(({ type }) => type === "ByteLevel")) return (entry) => byteLevel(entry);
  const hasBytes = steps.some(({ type }) => type === "ByteFallback");
  const replaced = steps.flatMap(({ type, pattern, content }) =>
    type === "Replace" && pattern?.String ? [[pattern.String, content ?? ""] as const] : [],
  );
  if (steps.some(({ type }) => type === "Metaspace")) replaced.push(["\u2581", " "]);
  return (entry) => {
    const byte = hasBytes ? /^<0x([0-9A-F]{2})>$/.exec(entry)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return utf8(replaced.reduce((text, [from, to]) => text.replaceAll(from, to), entry));
  };
}

/** @param bytes of one token */
export function textOf(bytes: Uint8Array): TokenText {
  try {
    return { token: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    const escaped = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`);
    return { token: escaped.join(""), bytes: [...bytes] };
  }
}

export const utf8 = (text: string) => new TextEncoder().encode(text);

function stepsOf(decoder: DecoderSpec | null): readonly DecoderSpec[] {
  if (decoder === null) return [];
  return decoder.type === "Sequence" ? (decoder.decoders ?? []).flatMap(stepsOf) : [decoder];
}

/** Each character stands for a byte; an entry with another character was added as plain text. */
function byteLevel(entry: string): Uint8Array {
  const bytes = Array.from(entry, (character) => BYTES.get(character));
  return bytes.includes(undefined) ? utf8(entry) : Uint8Array.from(bytes as number[]);
}

/** GPT-2's table: printable bytes stand for themselves, the others for the characters from U+0100 on, in order. */
const BYTES = new Map<string, number>();
for (let byte = 0, other = 0x100; byte < 256; byte++) {
  const printable =
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTES.set(String.fromCodePoint(printable ? byte : other++), byte);
}
