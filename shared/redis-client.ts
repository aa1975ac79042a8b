/** The part of an ioredis client that the stores need; named here so that they depend on no client. */
export interface RedisClient {
  defineCommand(name: string, definition: { numberOfKeys?: number; lua: string }): void;
  del(key: string): Promise<number>;
  hdel(key: string, field: string): Promise<number>;
  hget(key: string, field: string): Promise<string | null>;
  hgetall(key: string): Promise<Record<string, string>>;
  hmget(key: string, ...fields: string[]): Promise<(string | null)[]>;
  hset(key: string, values: Readonly<Record<string, string | number>>): Promise<number>;
  hsetnx(key: string, field: string, value: string): Promise<number>;
  get(key: string): Promise<string | null>;
  getrangeBuffer(key: string, start: number, end: number): Promise<Uint8Array>;
  lrange(key: string, start: number, stop: number): Promise<string[]>;
  pexpireat(key: string, atMs: number): Promise<number>;
  set(key: string, value: string, px: "PX", ms: number): Promise<unknown>;
  xdel(key: string, id: string): Promise<number>;
  xrange(key: string, start: string, end: string): Promise<[id: string, fields: string[]][]>;
  xrange(
    key: string,
    start: string,
    end: string,
    count: "COUNT",
    countMax: number,
  ): Promise<[id: string, fields: string[]][]>;
  zrem(key: string, member: string): Promise<unknown>;
  zrangebyscore(
    key: string,
    min: number,
    max: number,
    limit: "LIMIT",
    offset: number,
    count: number,
  ): Promise<string[]>;
}

export type Script = (...keysAndArgs: (string | number)[]) => Promise<unknown>;

/** A Lua script as a function: its keys, then its arguments. The client sends the text only where the server lacks it. */
export function script(
  redis: RedisClient,
  name: string,
  numberOfKeys: number,
  lua: string,
): Script {
  const command = `trimtab${name}`;
  redis.defineCommand(command, { numberOfKeys, lua });
  const run = (redis as unknown as Record<string, Script>)[command]!;
  return (...keysAndArgs) => run.apply(redis, keysAndArgs);
}
