/**
 * Memory of KV caches (kv-cache.ts) that is free again, for the next cache of the same size. Sequences that come and go change their
 * caches all the time, among few sizes, and new memory is slow: the system clears each page, and the garbage collector runs often.
 * Old values need no clearing: entries without tokens are masked.
 */
import type { CacheValues } from "./graph-io.ts";

export class FreeArrays {
  /** The arrays of one cache each, those that have been free for the longest time first. */
  readonly #blocks: (readonly CacheValues[])[] = [];
  #runs = 0;

  get bytes(): number {
    return this.#blocks.reduce((sum, block) => sum + bytesOf(block), 0);
  }

  /** Arrays with these numbers of values, if there are any. */
  take(sizes: readonly number[]): CacheValues[] | null {
    const index = this.#blocks.findLastIndex((block) =>
      block.every(({ length }, i) => length === sizes[i]),
    );
    return index < 0 ? null : [...this.#blocks.splice(index, 1)[0]!];
  }

  /** Takes over the arrays of a cache, in order of the graph's inputs. */
  give(block: readonly CacheValues[]): void {
    // A run that has begun may still read them.
    if (this.#runs === 0 && bytesOf(block) > 0) this.#blocks.push(block);
  }

  /** Drops arrays until the others have at most this many bytes. */
  trim(bytesMax: number): void {
    let bytes = this.bytes;
    while (bytes > bytesMax) bytes -= bytesOf(this.#blocks.shift()!);
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
