/**
 * Decides which sequences share a rectangle of the KV cache (kv-cache.ts) and thus a run. In a run every row costs as much as the
 * longest one, and every run reads all weights again. So rows of about the same length run together, and another run pays where
 * the entries that it saves are more bytes than the weights: a run takes as long as the bytes that it reads, of weights and caches
 * alike. Measured with 98M parameters in fp32 (test/README.md, uneven contexts).
 */

/** Bytes of a rectangle. The same function gives what a run reads of it and what it takes in memory. */
export type RectangleBytes = (rows: number, tokens: number) => number;

interface GroupLimits {
  /** Bytes that one more run costs. */
  readonly passBytes: number;
  /** Bytes that all rectangles together may have, if there is a way. */
  readonly bytesMax: number;
}

/**
 * Divides rows into groups so that their runs read the fewest bytes.
 * @param tokens of each row's rectangle if it is alone, the longest first
 * @returns number of rows of each group: groups are neighbours, because a row in between makes neither longer
 */
export function divideRows(
  tokens: readonly number[],
  bytesOf: RectangleBytes,
  { passBytes, bytesMax }: GroupLimits,
): number[] {
  for (let price = passBytes; ; price /= 4) {
    const isFree = price < 1;
    const sizes = cheapest(tokens, bytesOf, isFree ? 0 : price);
    // With cheaper runs there are more of them, and their rectangles are smaller; with free ones they are as small as possible.
    if (isFree || bytesOfGroups(tokens, sizes, bytesOf) <= bytesMax) return sizes;
  }
}

/** Bytes of the rectangles of all groups. */
export function bytesOfGroups(
  tokens: readonly number[],
  sizes: readonly number[],
  bytesOf: RectangleBytes,
): number {
  let [bytes, first] = [0, 0];
  for (const size of sizes) {
    bytes += bytesOf(size, tokens[first]!);
    first += size;
  }
  return bytes;
}

/** The division with the lowest price: for each number of first rows, the best last group before which all is best. */
function cheapest(tokens: readonly number[], bytesOf: RectangleBytes, passBytes: number): number[] {
  const best: { price: number; size: number }[] = [{ price: 0, size: 0 }];
  for (let end = 1; end <= tokens.length; end++) {
    let found = { price: Infinity, size: 0 };
    // The largest group first, so that of two equal prices the one with fewer runs is taken.
    for (let first = 0; first < end; first++) {
      const size = end - first;
      const price = best[first]!.price + passBytes + bytesOf(size, tokens[first]!);
      if (price < found.price) found = { price, size };
    }
    best.push(found);
  }
  const sizes: number[] = [];
  for (let end = tokens.length; end > 0; end -= best[end]!.size) sizes.unshift(best[end]!.size);
  return sizes;
}
