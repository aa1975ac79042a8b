/** A tenant's inbox in Redis: its latest webhook messages, unsigned, numbered without gaps. */
import { LIMITS } from "./limits.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";
import { inboxBellChannel, inboxKey, inboxMarkKey, inboxSeqKey } from "./redis-keys.ts";
import type { Message } from "./webhook.ts";

const RETENTION_MS = 24 * 3_600_000;

/**
 * KEYS: stream, last sequence number, mark of this message, bell. ARGV: retentionMs, messages kept at most, message id,
 * type, body. Appends a message once, however often it is announced.
 */
const APPEND = `
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local seq = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[3], seq, 'PX', ARGV[1])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], seq .. '-0', 'id', ARGV[3], 'type', ARGV[4], 'body', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[4], seq)
return 1
`;

export interface InboxEntry {
  readonly seq: number;
  readonly id: string;
  readonly type: string;
  readonly body: string;
}

export class InboxStore {
  readonly #redis: RedisClient;
  readonly #append: Script;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#append = script(redis, "APPEND_INBOX", 4, APPEND);
  }

  /** Idempotent for as long as messages are kept. */
  async append(tenant: string, { id, type, body }: Message): Promise<void> {
    const keys = [inboxKey(tenant), inboxSeqKey(tenant), inboxMarkKey(tenant, id)];
    const bounds = [RETENTION_MS, LIMITS.inboxMessagesMax];
    await this.#append(...keys, inboxBellChannel(tenant), ...bounds, id, type, body);
  }

  /** Takes a message out; its number stays its own, so readers count it as missed. */
  async delete(tenant: string, messageId: string): Promise<void> {
    const seq = await this.#redis.get(inboxMarkKey(tenant, messageId));
    if (seq !== null) await this.#redis.xdel(inboxKey(tenant), `${seq}-0`);
  }

  /** Sequence number of the last message; 0 before the first. */
  async last(tenant: string): Promise<number> {
    return Number((await this.#redis.get(inboxSeqKey(tenant))) ?? "0");
  }

  /** The first messages after number `after` that are kept. */
  async read(tenant: string, after: number, countMax: number): Promise<InboxEntry[]> {
    const range = [inboxKey(tenant), `(${after}-0`, "+"] as const;
    const entries = await this.#redis.xrange(...range, "COUNT", countMax);
    return entries.map(([seq, [, id, , type, , body]]) => {
      return { seq: Number.parseInt(seq, 10), id: id!, type: type!, body: body! };
    });
  }
}
