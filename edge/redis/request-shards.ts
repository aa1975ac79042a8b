/** The stores of one request on every shard (shared/redis/shards.ts). The API key of a request decides which of them it uses. */
import type { Env } from "../runtime/env.ts";
import { shardUrls } from "../../shared/redis/url.ts";
import type { RequestStores } from "./stores.ts";

/** The settings for each shard: REDIS_URL is its URL alone. */
export function envsOfShards(env: Env): Env[] {
  return shardUrls(env.REDIS_URL).map((url) => ({ ...env, REDIS_URL: url }));
}

export class RequestShards {
  readonly #open: (shard: number) => RequestStores;
  readonly #count: number;
  readonly #opened = new Map<number, RequestStores>();

  /**
   * @param open opens the stores of a shard
   * @param count of shards
   */
  constructor(open: (shard: number) => RequestStores, count: number) {
    this.#open = open;
    this.#count = count;
  }

  /** The stores of a shard; null if there is no such shard. */
  of(shard: number): RequestStores | null {
    if (shard >= this.#count) return null;
    const stores = this.#opened.get(shard) ?? this.#open(shard);
    this.#opened.set(shard, stores);
    return stores;
  }

  /** The stores of all shards, for what concerns all tenants. */
  all(): RequestStores[] {
    return Array.from({ length: this.#count }, (_, shard) => this.of(shard)!);
  }

  close(): void {
    for (const stores of this.#opened.values()) stores.close();
  }
}
