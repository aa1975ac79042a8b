import * as v from "valibot";
import { expect, test } from "vitest";
import type { ClientOptions } from "../../../shared/redis/cluster.ts";
import { RedisUrl, redisOptions } from "../../../shared/redis/url.ts";

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
])("%s is refused", (url) => {
  expect(v.is(RedisUrl, url)).toBe(false);
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
  expect(redisOptions(url)).toMatchObject({ host: "b", port: 2 });
});

test("certificates without TLS are refused: the connection would not be encrypted", () => {
  const tls = { REDIS_TLS_CA: "-----BEGIN CERTIFICATE-----" };
  expect(() => redisOptions("redis://host", tls)).toThrow("need a REDIS_URL with rediss://");
  expect(redisOptions("rediss://host", tls)).toMatchObject({ tls: { ca: tls.REDIS_TLS_CA } });
});
