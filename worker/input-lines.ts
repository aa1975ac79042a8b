/** The lines of a file, as it comes in chunks of any length. */
import { LIMITS } from "../shared/limits.ts";

const NEWLINE = 10;

export interface Line {
  /** Without its end; null for one that is longer than a request may be, or no UTF-8. */
  readonly text: string | null;
  /** Bytes of the file up to where the next line begins. */
  readonly end: number;
}

/** @param offset of the first chunk in the file */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  offset: number,
): AsyncGenerator<Line> {
  let end = offset;
  /** Of the line that goes on in the next chunk. */
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  const take = (piece: Uint8Array) => {
    bytes += piece.length;
    end += piece.length;
    if (bytes <= LIMITS.bodyBytesMax) pieces.push(piece);
  };
  const line = (): Line => {
    const text = bytes <= LIMITS.bodyBytesMax ? decode(pieces) : null;
    pieces = [];
    bytes = 0;
    return { text, end };
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

export const isBlank = ({ text }: Line) => text !== null && text.trim() === "";
