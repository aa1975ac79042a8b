/** Whether a Redis can be used now: the questions of `/readyz`. */
import type { RedisClient } from "../../shared/redis/client.ts";
import { READINESS_KEY } from "../../shared/redis/keys.ts";
import { listProblems } from "../../shared/redis/shards.ts";

export class Readiness {
  readonly #redis: RedisClient;
  readonly #shard: number;

  constructor(redis: RedisClient, shard: number) {
    this.#redis = redis;
    this.#shard = shard;
  }

  /**
   * Whether Redis takes writes. A full Redis is asked too and says yes, because everything but submissions goes on.
   * @throws an error that isRedisFailure recognises, if Redis does not answer, is a replica, or has too few replicas
   */
  async requireWritable(): Promise<void> {
    await this.#redis.del(READINESS_KEY);
  }

  /** Whether this Redis may have its place among the URLs. @param count of shards */
  listProblems(count: number) {
    return listProblems(this.#redis, this.#shard, count);
  }
}
