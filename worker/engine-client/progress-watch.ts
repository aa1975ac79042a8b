/**
 * Notices a thread that has work and makes no progress: a native call that does not return, an endless loop, a reply that never
 * comes. Its process must be replaced, because the main thread would renew the leases of its jobs for ever.
 */

const TICK_MS = 1_000;

export class ProgressWatch {
  #ticks = 0;
  readonly #timer: NodeJS.Timeout;

  /**
   * @param hasWork whether the thread has something to do now
   * @param seconds time with work and without progress after which `onHang` is called, once
   */
  constructor(hasWork: () => boolean, seconds: number, onHang: () => void) {
    // Ticks are counted, not time: while this process or its machine is suspended, no thread can make progress.
    this.#timer = setInterval(() => {
      this.#ticks = hasWork() ? this.#ticks + 1 : 0;
      if (this.#ticks * TICK_MS < seconds * 1000) return;
      this.stop();
      onHang();
    }, TICK_MS);
    this.#timer.unref();
  }

  progressed(): void {
    this.#ticks = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
