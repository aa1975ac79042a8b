/** Long work in parts. Compiling a format can take 100 ms, for which no stream and no request of the same thread should wait. */

/** Work that can be interrupted at each `yield`. */
export type Parts<T> = Generator<undefined, T, undefined>;

/** Without it in another runtime: in Node, `setTimeout` waits for at least a millisecond. */
const { setImmediate = (next: () => void) => void setTimeout(next, 0) } = globalThis as {
  readonly setImmediate?: (next: () => void) => void;
};

/** Does the work without a break. */
export function allParts<T>(work: Parts<T>): T {
  for (;;) {
    const part = work.next();
    if (part.done === true) return part.value;
  }
}

/**
 * Does the work in turns with the other work of the thread.
 * @param run runs each part
 */
export async function inTurns<T>(
  work: Parts<T>,
  run: <P>(part: () => P) => P = (part) => part(),
): Promise<T> {
  for (;;) {
    const part = run(() => work.next());
    if (part.done === true) return part.value;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}
