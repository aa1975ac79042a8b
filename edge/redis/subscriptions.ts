/**
 * Shares the subscriptions of one connection among any number of subscribers: the connection is subscribed to a channel while
 * at least one subscriber is, and a message on the channel is passed to the subscribers of that channel only.
 */
import { TAG } from "../../shared/redis/keys.ts";
import { withoutTag, withTag } from "../../shared/redis/tags.ts";
import type { SubscriberClient } from "./follow.ts";

export interface SubscriberConnection extends SubscriberClient {
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "ready" | "end", listener: () => void): unknown;
}

export class SharedSubscriptions {
  readonly #connection: SubscriberConnection;
  readonly #tag: string;
  readonly #subscribers = new Map<string, Set<Subscriber>>();

  /** @param tag of the channels at the connection; subscribers use the names of keys.ts */
  constructor(connection: SubscriberConnection, tag = TAG) {
    this.#connection = connection;
    this.#tag = tag;
    connection.on("message", (from, message) => {
      const channel = withoutTag(from);
      for (const subscriber of this.#subscribers.get(channel) ?? []) {
        subscriber.emit("message", channel, message);
      }
    });
    const emitReady = () => {
      const all = new Set([...this.#subscribers.values()].flatMap((set) => [...set]));
      for (const subscriber of all) subscriber.emit("ready");
    };
    connection.on("ready", emitReady);
    // After the connection's end each subscriber reads its log once more, and that read fails.
    connection.on("end", emitReady);
  }

  /** A new subscriber, which uses the shared connection. */
  subscriber(): SubscriberClient {
    return new Subscriber(this);
  }

  async subscribe(subscriber: Subscriber, channel: string): Promise<void> {
    const subscribers = this.#subscribers.get(channel) ?? new Set();
    this.#subscribers.set(channel, subscribers.add(subscriber));
    // Also if another one has subscribed: Redis may not have confirmed that subscription yet.
    await this.#connection.subscribe(withTag(channel, this.#tag));
  }

  async unsubscribe(subscriber: Subscriber, channel: string): Promise<void> {
    const subscribers = this.#subscribers.get(channel);
    if (subscribers?.delete(subscriber) !== true || subscribers.size > 0) return;
    this.#subscribers.delete(channel);
    await this.#connection.unsubscribe(withTag(channel, this.#tag));
  }
}

type Listener = (channel: string, message: string) => void;

class Subscriber implements SubscriberClient {
  readonly #subscriptions: SharedSubscriptions;
  readonly #listeners = { message: new Set<Listener>(), ready: new Set<Listener>() };

  constructor(subscriptions: SharedSubscriptions) {
    this.#subscriptions = subscriptions;
  }

  subscribe(channel: string): Promise<void> {
    return this.#subscriptions.subscribe(this, channel);
  }

  unsubscribe(channel: string): Promise<void> {
    return this.#subscriptions.unsubscribe(this, channel);
  }

  on(event: "message" | "ready", listener: Listener): void {
    this.#listeners[event].add(listener);
  }

  off(event: "message" | "ready", listener: Listener): void {
    this.#listeners[event].delete(listener);
  }

  emit(event: "message" | "ready", channel = "", message = ""): void {
    for (const listener of this.#listeners[event]) listener(channel, message);
  }
}
