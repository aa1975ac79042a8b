/**
 * Notices commands that get no reply although Redis answers later ones on the same connection. Redis replies in order, so such a
 * command was lost in this process. The code that waits for it would wait forever: its job would never end, while another timer
 * renews the lease.
 */
import { Redis, type Command } from "ioredis";

const TICK_MS = 1_000;

/** A client that knows its commands without a reply. */
export class WatchedRedis extends Redis {
  /** Ticks in a row at which each command had no reply and Redis answered others. */
  readonly #waiting = new Map<Command, number>();

  override sendCommand(...args: Parameters<Redis["sendCommand"]>): unknown {
    const command: Command = args[0];
    // A command that is sent again on a new connection is the same object.
    if (!this.#waiting.has(command)) {
      this.#waiting.set(command, 0);
      const replied = () => void this.#waiting.delete(command);
      command.promise.then(replied, replied);
    }
    return super.sendCommand(...args);
  }

  /**
   * @param isAnswering whether Redis answers on this connection now
   * @param seconds time without a reply, while Redis answers, after which a command counts as lost
   * @param onLost called once, with the names of the lost commands. They cannot be settled, so the process must end.
   */
  watchReplies(
    isAnswering: () => boolean,
    seconds: number,
    onLost: (commands: string[]) => void,
  ): void {
    // Ticks are counted, not time: while this process or its machine is suspended, no reply can arrive.
    const timer = setInterval(() => {
      const answers = isAnswering();
      const lost: string[] = [];
      for (const [command, ticks] of this.#waiting) {
        this.#waiting.set(command, answers ? ticks + 1 : 0);
        if (answers && ticks * TICK_MS >= seconds * 1000) lost.push(command.name);
      }
      if (lost.length === 0) return;
      clearInterval(timer);
      onLost(lost);
    }, TICK_MS);
    timer.unref();
    this.on("end", () => clearInterval(timer));
  }
}
