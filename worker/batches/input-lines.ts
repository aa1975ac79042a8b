/** Splits a batch's input file into lines, while it is read in chunks of any length. */
import { LIMITS } from "../../shared/api/limits.ts";

const NEWLINE = 10;

export interface InputLine {
  /** The line without its line break; null if it is longer than a request may be, or not valid UTF-8. */
  readonly text: string | null;
  /** Byte offset in the file where the next line starts. */
  readonly endOffset: number;
}

/** @param offset byte offset of the first chunk in the file */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  offset: number,
): AsyncGenerator<InputLine> {
  let end = offset;
  /** Parts of a line that spans several chunks, and their length. */
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  const take = (piece: Uint8Array) => {
    bytes += piece.length;
    end += piece.length;
    if (bytes <= LIMITS.bodyBytesMax) pieces.push(piece);
  };
  const line = (): InputLine => {
    const text = bytes <= LIMITS.bodyBytesMax ? decode(pieces) : null;
    pieces = [];
    bytes = 0;
    return { text, endOffset: end };
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
      take(chunk.subarray(from, to + 1));
      from = to + 1;
      yield line();
    }
    take(chunk.subarray(from));
  }
  if (bytes > 0) yield line();
}

function decode(pieces: readonly Uint8Array[]): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(pieces));
  } catch {
    return null;
  }
}

export const isBlankLine = ({ text }: InputLine) => text !== null && text.trim() === "";
