/** Merges several streams into one that yields each value as soon as its source does. */

/**
 * Ends when all sources have ended, or with the first error of a source. A caller that stops reading earlier must end the
 * sources through their abort signal: there is no other way to end a source that is waiting.
 */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<T> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = async (i: number) => ({ i, ...(await iterators[i]!.next()) });
  const pending = new Map(iterators.map((_, i) => [i, next(i)]));
  while (pending.size > 0) {
    const { i, done, value } = await Promise.race(pending.values());
    if (done) pending.delete(i);
    else {
      pending.set(i, next(i));
      yield value;
    }
  }
}
