/** Several streams as one, each value when it is there. */

/**
 * Ends when all have ended, and with the first error of any. Whoever leaves before must end the sources too, by their
 * signal: a source that waits hears nothing else.
 */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<T> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = async (i: number) => ({ i, ...(await iterators[i]!.next()) });
  const waiting = new Map(iterators.map((_, i) => [i, next(i)]));
  while (waiting.size > 0) {
    const { i, done, value } = await Promise.race(waiting.values());
    if (done) waiting.delete(i);
    else {
      waiting.set(i, next(i));
      yield value;
    }
  }
}
