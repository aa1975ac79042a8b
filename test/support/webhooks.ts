/** All webhook stores of a Redis and their publisher, for tests. */
import { WebhookPublisher, type DeliveryQueue } from "../../shared/webhooks/publisher.ts";
import { DeliveryStore } from "../../shared/webhooks/delivery-store.ts";
import { EndpointStore } from "../../shared/webhooks/endpoint-store.ts";
import { InboxStore } from "../../shared/webhooks/inbox-store.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { SigningStore } from "../../shared/webhooks/signing-store.ts";

export class Webhooks {
  readonly publisher: WebhookPublisher;
  readonly deliveries: DeliveryStore;
  readonly endpoints: EndpointStore;
  readonly inbox: InboxStore;
  readonly signing: SigningStore;

  constructor(redis: RedisClient, queue: DeliveryQueue) {
    this.publisher = new WebhookPublisher(redis, queue);
    this.deliveries = new DeliveryStore(redis);
    this.endpoints = new EndpointStore(redis);
    this.inbox = new InboxStore(redis);
    this.signing = new SigningStore(redis);
  }
}
