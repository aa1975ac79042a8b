/** Tickets in Redis, each under its SHA-256. Redis deletes them when they expire. */
import * as v from "valibot";
import { TicketAction } from "../../shared/api/tickets.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { fromJson } from "../../shared/redis/fields.ts";
import { ticketKey } from "../../shared/redis/keys.ts";

const TicketRecord = v.pipe(
  fromJson,
  v.object({
    jobId: v.string(),
    /** Id of the API key that created the ticket. */
    keyId: v.string(),
    action: TicketAction,
  }),
);
export type TicketRecord = v.InferOutput<typeof TicketRecord>;

export class TicketStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  async save(sha256: string, ticket: TicketRecord, seconds: number): Promise<void> {
    await this.#redis.set(ticketKey(sha256), JSON.stringify(ticket), "PX", seconds * 1000);
  }

  /** The ticket, or null if it is unknown or has expired. */
  async get(sha256: string): Promise<TicketRecord | null> {
    const json = await this.#redis.get(ticketKey(sha256));
    return json === null ? null : v.parse(TicketRecord, json);
  }
}
