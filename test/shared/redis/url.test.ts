import * as v from "valibot";
import { expect, test } from "vitest";
import type { ClientOptions } from "../../../shared/redis/cluster.ts";
import { TAGS } from "../../../shared/redis/tags.ts";
import { RedisUrl, RedisUrls, redisOptions } from "../../../shared/redis/url.ts";

test.each([
  ["redis://localhost", { host: "localhost", port: 6379, db: 0 }],
  ["redis://:p%40ss@h:1/2", { host: "h", port: 1, db: 2, password: "p@ss" }],
  [
    "rediss://me:pw@h",
    { host: "h", port: 6379, db: 0, username: "me", password: "pw", tls: { servername: "h" } },
  ],
  ["rediss://10.0.0.1", { host: "10.0.0.1", port: 6379, db: 0, tls: {} }],
  [
    "rediss+sentinel://a/main?sentinel_username=s&sentinel_password=p%40+=",
    {
      name: "main",
      db: 0,
      sentinelCommandTimeout: 2_000,
      sentinels: [{ host: "a", port: 26379 }],
      sentinelUsername: "s",
      sentinelPassword: "p@+=",
      tls: {},
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
    },
  ],
  ["redis://[::1]:7?family=6", { host: "::1", port: 7, db: 0, family: 6 }],
  [
    "redis+sentinel://a,b:2/main",
    {
      name: "main",
      db: 0,
      sentinelCommandTimeout: 2_000,
      sentinels: [
        { host: "a", port: 26379 },
        { host: "b", port: 2 },
      ],
    },
  ],
  [
    "redis+sentinel://:pw@[::1]:3/main/4",
    {
      name: "main",
      db: 4,
      password: "pw",
      sentinelCommandTimeout: 2_000,
      sentinels: [{ host: "::1", port: 3 }],
    },
  ],
])("%s is accepted and gives the options of a client", (url, options) => {
  expect(v.parse(RedisUrl, url)).toBe(url);
  const { reconnectOnError, disableClientInfo, ...rest } = redisOptions(url);
  expect(rest).toEqual(options);
  expect(disableClientInfo).toBe(true);
  expect(reconnectOnError(new Error("READONLY You can't write against a read only replica."))).toBe(
    2,
  );
});

test.each([
  ["localhost", "redis://localhost"],
  ["10.0.0.1:6380/2", "redis://10.0.0.1:6380/2"],
])("%s is %s", (url, withScheme) => {
  expect(v.parse(RedisUrl, url)).toBe(withScheme);
});

test.each([
  "http://h",
  "redis://",
  "me:pw@h:6379",
  "redis+sentinel://a:1",
  "redis+sentinel:///main",
  "redis+cluster://",
  "redis+cluster://a:1,b:x",
  "redis+cluster://a:1,",
  "redis+cluster://me:pw@a:1,,b:2",
  "redis+cluster://a:1,b:2,c:3,d:4",
  "redis://h?shards=3",
  "redis+sentinel://a/main?shards=3",
])("%s is refused", (url) => {
  expect(v.is(RedisUrl, url)).toBe(false);
});

test("several URLs are separated by white space, and each must be a server of its own", () => {
  expect(v.parse(RedisUrls, "redis://a\n")).toBe("redis://a");
  const two = "a:1 rediss://me:pw@b:1/2\n  redis+sentinel://s:3/x redis+sentinel://s:3/y";
  expect(v.parse(RedisUrls, two)).toBe(
    "redis://a:1 rediss://me:pw@b:1/2 redis+sentinel://s:3/x redis+sentinel://s:3/y",
  );
  const cluster = "redis+cluster://me:pw@a:1,b:2";
  const shards = `redis://c ${cluster} ${cluster}?tag=1 ${cluster}?tag=2`;
  expect(v.parse(RedisUrls, `c ${cluster}?shards=3`)).toBe(shards);
  expect(redisOptions(`${cluster}?tag=2`)).toMatchObject({
    tag: TAGS[2],
    host: "a",
    password: "pw",
  });
  expect(redisOptions(cluster)).not.toHaveProperty("tag");
  const wrongCounts = ["?shards=0", "?shards=9", "?tag=8", "?shards="].map((end) => cluster + end);
  const refused = [
    ...wrongCounts,
    `${cluster} ${cluster}?shards=2`,
    `${cluster}?tag=1 ${cluster}`,
    "redis://h?shards=3",
    "",
    "a:1 http://b",
    "redis://a:1/1 redis://u:p@a:1/2",
    "a a",
  ];
  expect(refused.filter((urls) => v.is(RedisUrls, urls))).toEqual([]);
});

test("a cluster's client goes to the node that MOVED names, and to the next of the URL when it fails", () => {
  const url = "rediss+cluster://me:pw@a:1,b:2";
  expect(v.parse(RedisUrl, url)).toBe(url);
  const options = redisOptions(
    url,
    {},
    { retryStrategy: () => 7 },
  ) as unknown as Required<ClientOptions>;
  const address = () => `${options.host}:${options.port}`;
  expect(options).toMatchObject({ host: "a", port: 1, username: "me", tls: { servername: "a" } });
  expect(options.reconnectOnError(new Error("MOVED 10936 2001:db8::1:6380"))).toBe(2);
  expect(options.retryStrategy(1)).toBeLessThan(100);
  expect(address()).toBe("2001:db8::1:6380");
  expect(options).toMatchObject({ tls: { servername: "a" } });
  // The connection to it is lost.
  expect(options.retryStrategy(1)).toBe(7);
  expect(address()).toBe("b:2");
  expect(options).toMatchObject({ tls: { servername: "b" } });
  expect(options.reconnectOnError(new Error("CLUSTERDOWN Hash slot not served"))).toBe(2);
  expect(options.reconnectOnError(new Error("ERR unknown command"))).toBe(false);
  // A new client begins with the node that is known by now.
  const later = () => redisOptions(url) as unknown as Required<ClientOptions>;
  expect(later()).toMatchObject({ host: "a", port: 1, tls: { servername: "a" } });
  options.reconnectOnError(new Error("MOVED 10936 c:3"));
  expect(later()).toMatchObject({ host: "c", port: 3, tls: { servername: "c" } });
});

test("a cluster's client stays with a node whose slot is being moved, with growing pauses", () => {
  const options = redisOptions(
    "redis+cluster://migrating:1,b:2",
  ) as unknown as Required<ClientOptions>;
  const pauses = ["ASK 10936 b:2", "TRYAGAIN Multiple keys", "ASK 10936 b:2"].map((reply) => {
    expect(options.reconnectOnError(new Error(reply))).toBe(2);
    expect(options.reconnectOnError(new Error(reply))).toBe(2);
    return options.retryStrategy(1);
  });
  expect(pauses).toEqual([50, 100, 200]);
  expect(options).toMatchObject({ host: "migrating", port: 1 });
});

test("while nodes name each other, or all say that the cluster is down, the pauses of a client grow", () => {
  const options = redisOptions("redis+cluster://storm:1,b:2") as unknown as Required<ClientOptions>;
  const replies = [
    "MOVED 1 b:2",
    "MOVED 1 storm:1",
    "CLUSTERDOWN The cluster is down",
    "MOVED 1 b:2",
  ];
  const pauses = replies.map((reply) => {
    expect(options.reconnectOnError(new Error(reply))).toBe(2);
    return options.retryStrategy(1);
  });
  expect(pauses).toEqual([10, 20, 50, 100]);
});

test("a cluster's client that does not reconnect tries the nodes of the URL", () => {
  const own = { connectTimeout: 3_000, retryStrategy: () => null };
  const url = "redis+cluster://down:1,down:2,up:3";
  const options = redisOptions(url, {}, own) as unknown as Required<ClientOptions>;
  expect(options.connectTimeout).toBe(1_000);
  const ports = [1, 2].map((times) => {
    expect(options.retryStrategy(times)).not.toBeNull();
    return options.port;
  });
  expect(ports).toEqual([2, 3]);
  expect(options.retryStrategy(4)).toBeNull();
});

test("certificates without TLS are refused: the connection would not be encrypted", () => {
  const tls = { REDIS_TLS_CA: "-----BEGIN CERTIFICATE-----" };
  expect(() => redisOptions("redis://host", tls)).toThrow("need a REDIS_URL with rediss://");
  expect(redisOptions("rediss://host", tls)).toMatchObject({ tls: { ca: tls.REDIS_TLS_CA } });
});
