/** Contents of files in tests. */

/** Text in which every line is different, so that a lost or swapped line is noticed. */
export function numberedLines(bytes: number): Uint8Array {
  const text = new Uint8Array(bytes);
  const encoder = new TextEncoder();
  for (let at = 0; at < bytes; at += 10) {
    encoder.encodeInto(`${String(at).padStart(9, "0")}\n`, text.subarray(at));
  }
  return text;
}

export async function collectBytes(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks));
}
