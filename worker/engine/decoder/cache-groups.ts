/**
 * Decides which sequences share a rectangle of the KV cache (kv-cache.ts) and thus a run. In a run every row costs as much as the
 * longest one, and every run reads all weights again. So rows of about the same length run together, and there is another run
 * where the entries that it saves are more bytes than the weights: a run takes as long as the bytes that it reads, of weights and caches
 * alike. Measured with 98M parameters in fp32 (test/README.md, uneven contexts).
 */

/** Bytes of one token of a rectangle: what a run reads of it, and what it takes in memory. */
export interface TokenBytes {
  /** Of each row. */
  readonly row: number;
  /** Of the spare row in front of all rows. */
  readonly spare: number;
}

export const rectangleBytes = ({ row, spare }: TokenBytes, rows: number, tokens: number): number =>
  rows === 0 ? 0 : tokens * (rows * row + spare);

interface GroupLimits {
  /** Bytes that one more run costs. */
  readonly passBytes: number;
  /** Bytes that all rectangles together may have, if there is a way. */
  readonly bytesMax: number;
}

/** Rows of the same length. They are always in one group, because none of them makes the others longer. */
interface EqualRows {
  readonly tokens: number;
  readonly count: number;
}

/**
 * Divides rows into groups so that their runs read the fewest bytes. With n rows of k lengths it takes n + k * k steps for each price
 * that is tried: 15 of them where the limit leaves only the smallest rectangles.
 * @param tokens of each row's rectangle if it is alone, the longest first
 * @returns number of rows of each group: groups are neighbours, because a row in between makes neither longer
 */
export function divideRows(
  tokens: readonly number[],
  bytes: TokenBytes,
  { passBytes, bytesMax }: GroupLimits,
): number[] {
  const rows = mergeEqual(tokens);
  for (let price = passBytes; ; price /= 4) {
    const isFree = price < 1;
    const sizes = cheapest(rows, bytes, isFree ? 0 : price);
    // With cheaper runs there are more of them, and their rectangles are smaller; with free ones they are as small as possible.
    if (isFree || bytesOfGroups(tokens, sizes, bytes) <= bytesMax) return sizes;
  }
}

/** Bytes of the rectangles of all groups. */
export function bytesOfGroups(
  tokens: readonly number[],
  sizes: readonly number[],
  bytes: TokenBytes,
): number {
  let [sum, first] = [0, 0];
  for (const size of sizes) {
    sum += rectangleBytes(bytes, size, tokens[first]!);
    first += size;
  }
  return sum;
}

function mergeEqual(lengths: readonly number[]): EqualRows[] {
  const merged: { tokens: number; count: number }[] = [];
  for (const tokens of lengths) {
    const last = merged.at(-1);
    if (last?.tokens === tokens) last.count++;
    else merged.push({ tokens, count: 1 });
  }
  return merged;
}

/** The division with the lowest price: for each number of first lengths, the best last group before which all is best. */
function cheapest(rows: readonly EqualRows[], bytes: TokenBytes, passBytes: number): number[] {
  // Without spare rows, every group of two lengths has padding.
  if (passBytes === 0 && bytes.spare === 0) return rows.map(({ count }) => count);
  /** For each number of first lengths: the lowest price, the first length of the last group, and its rows. */
  const best = [{ price: 0, first: 0, size: 0 }];
  for (let end = 1; end <= rows.length; end++) {
    let found = { price: Infinity, first: 0, size: 0 };
    let size = 0;
    for (let first = end - 1; first >= 0; first--) {
      size += rows[first]!.count;
      const group = passBytes + rectangleBytes(bytes, size, rows[first]!.tokens);
      const price = best[first]!.price + group;
      // Of two equal prices the one with fewer runs is taken.
      if (price <= found.price) found = { price, first, size };
    }
    best.push(found);
  }
  const sizes: number[] = [];
  for (let end = rows.length; end > 0; end = best[end]!.first) sizes.push(best[end]!.size);
  return sizes.toReversed();
}

/** Slot capacity doubles, because each growth copies all slots. */
export const roundUpSlots = (count: number) => (count === 0 ? 0 : 2 ** Math.ceil(Math.log2(count)));
