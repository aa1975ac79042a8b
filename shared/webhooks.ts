/** All of webhooks in Redis, by one hand. */
import { Announcer, type DeliveryQueue } from "./announcer.ts";
import { DeliveryStore } from "./delivery-store.ts";
import { EndpointStore } from "./endpoint-store.ts";
import { InboxStore } from "./inbox-store.ts";
import type { RedisClient } from "./redis-client.ts";
import { SigningStore } from "./signing-store.ts";

export class Webhooks {
  readonly announcer: Announcer;
  readonly deliveries: DeliveryStore;
  readonly endpoints: EndpointStore;
  readonly inbox: InboxStore;
  readonly signing: SigningStore;

  constructor(redis: RedisClient, queue: DeliveryQueue) {
    this.announcer = new Announcer(redis, queue);
    this.deliveries = new DeliveryStore(redis);
    this.endpoints = new EndpointStore(redis);
    this.inbox = new InboxStore(redis);
    this.signing = new SigningStore(redis);
  }
}
