/** A reader's side of Redis channels without Redis. */
import { EventEmitter } from "node:events";
import type { SubscriberClient } from "../../edge/redis/follow.ts";

/** A subscriber whose messages a test emits itself. */
export class FakeSubscriber extends EventEmitter implements SubscriberClient {
  subscribed: string[] = [];

  async subscribe(channel: string): Promise<void> {
    this.subscribed.push(channel);
  }

  async unsubscribe(channel: string): Promise<void> {
    this.subscribed = this.subscribed.filter((name) => name !== channel);
  }

  publish(channel: string, message: string): void {
    this.emit("message", channel, message);
  }
}
