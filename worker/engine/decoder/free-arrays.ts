/**
 * Memory of KV caches (kv-cache.ts) that is free again, for the next cache of the same size. Sequences that come and go change their
 * caches all the time, among few sizes, and new memory is slow: the system maps each page, and the garbage collector runs often
 * (75 MB, half of it written: 30 ms new, 13 ms cleared and used again).
 */
import type { CacheValues } from "./graph-io.ts";

export class FreeArrays {
  /** The arrays of one cache each, those that have been free for the longest time first. */
  readonly #blocks: (readonly CacheValues[])[] = [];
  #runs = 0;
  #isShared = false;

  /** Whether the caches have memory that other threads can use too. Copies between such arrays take twice as long. */
  get isShared(): boolean {
    return this.#isShared;
  }

  share(): void {
    this.#isShared = true;
    this.#blocks.length = 0;
  }

  get bytes(): number {
    return this.#blocks.reduce((sum, block) => sum + bytesOf(block), 0);
  }

  /** Arrays of zeros with these numbers of values, if there are any. */
  take(sizes: readonly number[]): CacheValues[] | null {
    const index = this.#blocks.findLastIndex((block) =>
      block.every(({ length }, i) => length === sizes[i]),
    );
    if (index < 0) return null;
    const [block] = this.#blocks.splice(index, 1);
    // A mask hides old numbers, but not NaN or infinity, which a broken run may have left.
    for (const values of block!) clear(values);
    return [...block!];
  }

  /** Takes over the arrays of a cache, in order of the graph's inputs. */
  give(block: readonly CacheValues[]): void {
    const isShared = block[0]?.buffer instanceof SharedArrayBuffer;
    // A run that has begun may still read them.
    if (this.#runs === 0 && bytesOf(block) > 0 && isShared === this.#isShared) {
      this.#blocks.push(block);
    }
  }

  /** Drops arrays until the others have at most this many bytes. */
  trim(bytesMax: number): void {
    let bytes = this.bytes;
    while (bytes > bytesMax) {
      const block = this.#blocks.shift()!;
      bytes -= bytesOf(block);
      for (const values of block) release(values);
    }
  }

  /** Runs a model that reads caches. */
  async during<T>(run: () => Promise<T>): Promise<T> {
    this.#runs++;
    try {
      return await run();
    } finally {
      this.#runs--;
    }
  }
}

export const bytesOf = (block: readonly CacheValues[]) =>
  block.reduce((sum, { byteLength }) => sum + byteLength, 0);

/**
 * Gives the memory of a whole array back at once. Otherwise the garbage collector has to find it, and such memory makes it run: with
 * 98M parameters 45 times in 2,000 tokens, each time through the whole heap.
 */
export function release({ buffer }: CacheValues): void {
  // Two inputs of a graph may share an array; memory that other threads can use cannot be given back.
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

export function clear({ buffer, byteOffset, byteLength }: CacheValues): void {
  new Uint8Array(buffer, byteOffset, byteLength).fill(0);
}
