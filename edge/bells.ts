/**
 * One connection's bells, for any number of readers: a channel is subscribed to while one of them wants it, and what is
 * said there reaches those alone.
 */
import type { BellClient } from "../shared/follow.ts";

export interface BellConnection extends BellClient {
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "ready" | "end", listener: () => void): unknown;
}

export class Bells {
  readonly #connection: BellConnection;
  readonly #readers = new Map<string, Set<BellReader>>();

  constructor(connection: BellConnection) {
    this.#connection = connection;
    connection.on("message", (channel, message) => {
      for (const reader of this.#readers.get(channel) ?? []) {
        reader.tell("message", channel, message);
      }
    });
    const resume = () => {
      for (const reader of new Set([...this.#readers.values()].flatMap((set) => [...set]))) {
        reader.tell("ready");
      }
    };
    connection.on("ready", resume);
    // A connection that is given up ends its readers, whose next read of the log fails.
    connection.on("end", resume);
  }

  /** What one reader has of the connection. */
  reader(): BellClient {
    return new BellReader(this);
  }

  async subscribe(reader: BellReader, channel: string): Promise<void> {
    const readers = this.#readers.get(channel) ?? new Set();
    this.#readers.set(channel, readers.add(reader));
    // Also where another reader did: its subscription may not have been answered yet.
    await this.#connection.subscribe(channel);
  }

  async unsubscribe(reader: BellReader, channel: string): Promise<void> {
    const readers = this.#readers.get(channel);
    if (readers?.delete(reader) !== true || readers.size > 0) return;
    this.#readers.delete(channel);
    await this.#connection.unsubscribe(channel);
  }
}

type Listener = (channel: string, message: string) => void;

class BellReader implements BellClient {
  readonly #bells: Bells;
  readonly #listeners = { message: new Set<Listener>(), ready: new Set<Listener>() };

  constructor(bells: Bells) {
    this.#bells = bells;
  }

  subscribe(channel: string): Promise<void> {
    return this.#bells.subscribe(this, channel);
  }

  unsubscribe(channel: string): Promise<void> {
    return this.#bells.unsubscribe(this, channel);
  }

  on(event: "message" | "ready", listener: Listener): void {
    this.#listeners[event].add(listener);
  }

  off(event: "message" | "ready", listener: Listener): void {
    this.#listeners[event].delete(listener);
  }

  tell(event: "message" | "ready", channel = "", message = ""): void {
    for (const listener of this.#listeners[event]) listener(channel, message);
  }
}
