/**
 * The commands that the stores use of a Redis client. An ioredis client has all of them; the interface is here because
 * shared/ must not import ioredis.
 */
export interface RedisClient {
  /** The options of the client: ioredis clients have them. */
  readonly options?: object;
  del(key: string): Promise<number>;
  eval(lua: string, keyCount: number, ...keysAndArgs: (string | number)[]): Promise<unknown>;
  evalsha(sha1: string, keyCount: number, ...keysAndArgs: (string | number)[]): Promise<unknown>;
  exists(key: string): Promise<number>;
  get(key: string): Promise<string | null>;
  getrangeBuffer(key: string, start: number, end: number): Promise<Uint8Array>;
  hdel(key: string, field: string): Promise<number>;
  hkeys(key: string): Promise<string[]>;
  hscan(key: string, cursor: string): Promise<[cursor: string, fields: string[]]>;
  hget(key: string, field: string): Promise<string | null>;
  hgetall(key: string): Promise<Record<string, string>>;
  hmget(key: string, ...fields: string[]): Promise<(string | null)[]>;
  hset(key: string, values: Readonly<Record<string, string | number>>): Promise<number>;
  hsetnx(key: string, field: string, value: string): Promise<number>;
  info(): Promise<string>;
  lrange(key: string, start: number, stop: number): Promise<string[]>;
  pexpireat(key: string, atMs: number): Promise<number>;
  scard(key: string): Promise<number>;
  select(database: number): Promise<unknown>;
  smembers(key: string): Promise<string[]>;
  srem(key: string, member: string): Promise<number>;
  sscan(key: string, cursor: string): Promise<[cursor: string, members: string[]]>;
  time(): Promise<readonly (number | string)[]>;
  set(key: string, value: string, px: "PX", ms: number): Promise<unknown>;
  strlen(key: string): Promise<number>;
  xdel(key: string, id: string): Promise<number>;
  xrange(key: string, start: string, end: string): Promise<[id: string, fields: string[]][]>;
  xrange(
    key: string,
    start: string,
    end: string,
    count: "COUNT",
    countMax: number,
  ): Promise<[id: string, fields: string[]][]>;
  zcard(key: string): Promise<number>;
  zpopmin(key: string): Promise<string[]>;
  zrange(key: string, start: number, stop: string): Promise<string[]>;
  /** @returns each member followed by its score */
  zrange(key: string, start: number, stop: string, scores: "WITHSCORES"): Promise<string[]>;
  zrangebyscore(
    key: string,
    min: number,
    max: number,
    limit: "LIMIT",
    offset: number,
    count: number,
  ): Promise<string[]>;
  zrem(key: string, member: string): Promise<unknown>;
  zscore(key: string, member: string): Promise<string | null>;
}
