/** The tenants' inboxes in Redis: the latest webhook messages of a tenant, unsigned, numbered without gaps. */
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { inboxChannel, inboxKey, inboxNumbersKey, inboxSeqKey } from "../redis/keys.ts";
import type { WebhookMessage } from "./message.ts";
import { appendToInbox } from "./scripts.ts";

const RETENTION_MS = 24 * 3_600_000;
/**
 * A message is recognised while this many newer ones were appended. It is published twice if a process crashes in between: then
 * the sweeper publishes it again within a minute, when the message itself may have left a busy inbox.
 */
const NUMBERS_MAX = 10 * LIMITS.inboxMessagesMax;

export interface InboxEntry {
  readonly seq: number;
  readonly id: string;
  readonly type: string;
  readonly body: string;
}

export class InboxStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Appends a message. Idempotent within the last 10,000 messages and a day. */
  async append(tenant: string, { id, type, body }: WebhookMessage): Promise<void> {
    const numbers = inboxNumbersKey(tenant);
    const keys = [inboxKey(tenant), inboxSeqKey(tenant), numbers, inboxChannel(tenant)];
    const args = [RETENTION_MS, LIMITS.inboxMessagesMax, NUMBERS_MAX, id, type, body];
    await appendToInbox(this.#redis, keys, args);
  }

  /** Deletes a message. No other message gets its number, so a reader sees that one is missing. */
  async delete(tenant: string, messageId: string): Promise<void> {
    const seq = await this.#redis.zscore(inboxNumbersKey(tenant), messageId);
    if (seq !== null) await this.#redis.xdel(inboxKey(tenant), `${seq}-0`);
  }

  /** Sequence number of the last message; 0 before the first. */
  async lastSeq(tenant: string): Promise<number> {
    return Number((await this.#redis.get(inboxSeqKey(tenant))) ?? "0");
  }

  /** The first messages after sequence number `after`, oldest first. */
  async read(tenant: string, after: number, countMax: number): Promise<InboxEntry[]> {
    const range = [inboxKey(tenant), `(${after}-0`, "+"] as const;
    const entries = await this.#redis.xrange(...range, "COUNT", countMax);
    return entries.map(([seq, [, id, , type, , body]]) => {
      return { seq: Number.parseInt(seq, 10), id: id!, type: type!, body: body! };
    });
  }
}
