/** `npm run keys` against a real Redis: what it makes, what it stores, and what it says when it cannot. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hashApiKey } from "../../shared/api-key.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import { keyHashKey } from "../../shared/redis-keys.ts";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";

const KEYS = join(import.meta.dirname, "../../infra/keys.ts");
let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

interface Said {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

function keys(args: readonly string[], redisUrl = server.url): Promise<Said> {
  return new Promise((resolve) => {
    const env = { ...process.env, REDIS_URL: redisUrl };
    execFile(process.execPath, [KEYS, ...args], { env }, (failure, out, error) => {
      resolve({ code: Number(failure?.code ?? 0), out, error });
    });
  });
}

/** The value on the line that a label begins. */
function valueOf(out: string, label: string): string {
  return new RegExp(`^${label} +(\\S+)`, "m").exec(out)?.[1] ?? "";
}

test("a key is shown once, and only its hash is stored", async () => {
  const { code, out } = await keys(["create", "--name", "acme production"]);
  expect(code).toBe(0);
  const key = valueOf(out, "API key");
  expect(key).toMatch(/^tt_[\w-]{43}$/);

  const redis = await connectRedis(server.url);
  expect(await new KeyRegistry(redis).authenticate(await hashApiKey(key))).toMatchObject({
    id: valueOf(out, "key id"),
    name: "acme production",
    tenant: valueOf(out, "tenant"),
    scopes: ["jobs:write", "jobs:read"],
    limits: {},
  });
  for (const name of await redis.keys("*")) {
    expect(name).not.toContain(key);
    expect(JSON.stringify(await redis.dump(name))).not.toContain(key);
  }
  redis.disconnect();
});

test("a tenant gets its webhook secret with its first key; it can be shown again, and replaced", async () => {
  const first = await keys(["create", "--name", "a", "--tenant", "acme"]);
  const secret = valueOf(first.out, "webhook secret");
  expect(() => new Webhook(secret)).not.toThrow();
  const second = await keys(["create", "--name", "b", "--tenant", "acme"]);
  expect(valueOf(second.out, "tenant")).toBe("acme");
  expect(second.out).not.toContain("webhook secret");
  expect((await keys(["secret", "--tenant", "acme"])).out.trim()).toBe(secret);

  const rotated = (await keys(["secret", "--tenant", "acme", "--rotate"])).out.trim();
  expect(rotated).not.toBe(secret);
  expect((await keys(["secret", "--tenant", "acme"])).out.trim()).toBe(rotated);
});

test("keys made without a tenant do not share one", async () => {
  const [a, b] = await Promise.all([1, 2].map(() => keys(["create", "--name", "same"])));
  expect(valueOf(a?.out ?? "", "tenant")).not.toBe(valueOf(b?.out ?? "", "tenant"));
});

test("a key has the scopes and limits that it was made with", async () => {
  const limits =
    "--requests-per-minute 5 --tokens-per-minute 900 --concurrent-jobs 2 --alpha -1..3 --models a,b";
  const made = ["create", "--name", "a", "--scopes", "jobs:read,admin", ...limits.split(" ")];
  const { out } = await keys(made);
  const redis = await connectRedis(server.url);
  expect(await new KeyRegistry(redis).read(valueOf(out, "key id"))).toMatchObject({
    scopes: ["jobs:read", "admin"],
    limits: {
      requests_per_minute: 5,
      tokens_per_minute: 900,
      concurrent_jobs: 2,
      alpha: { min: -1, max: 3 },
      models: ["a", "b"],
    },
  });
  redis.disconnect();
  expect((await keys(["create", "--name", "a", "--alpha", "3..1"])).error).toBe(
    "limits.alpha.max must be at least min\n",
  );
  expect((await keys(["create", "--name", "a", "--concurrent-jobs", "few"])).error).toMatch(
    /expected a number/,
  );
});

test("a rotated key keeps its id and gets a new secret; the old one goes on as long as was said", async () => {
  const { out } = await keys(["create", "--name", "old"]);
  const id = valueOf(out, "key id");
  const hash = await hashApiKey(valueOf(out, "API key"));
  const rotated = await keys(["rotate", id, "--overlap", "3600"]);
  const redis = await connectRedis(server.url);
  const registry = new KeyRegistry(redis);
  expect(await registry.authenticate(hash)).toMatchObject({ id });
  expect(await redis.ttl(keyHashKey(hash))).toBeGreaterThan(3_500);
  const newHash = await hashApiKey(valueOf(rotated.out, "API key"));
  expect(await registry.authenticate(newHash)).toMatchObject({ id });
  expect(await redis.ttl(keyHashKey(newHash))).toBe(-1);
  redis.disconnect();
});

test("a revoked key is gone from the list and from Redis", async () => {
  const { out } = await keys(["create", "--name", "brief"]);
  const id = valueOf(out, "key id");
  expect((await keys(["list"])).out).toContain(`${id}  `);
  expect((await keys(["revoke", id])).out).toBe(`revoked ${id}\n`);
  expect((await keys(["list"])).out).not.toContain(id);
  const redis = await connectRedis(server.url);
  expect(await redis.exists(keyHashKey(await hashApiKey(valueOf(out, "API key"))))).toBe(0);
  redis.disconnect();
  expect(await keys(["revoke", id])).toMatchObject({ code: 1, error: `there is no key ${id}\n` });
});

test("a Redis that does not answer is one line, without its password", async () => {
  expect(await keys(["list"], "redis://admin:secret@127.0.0.1:1")).toEqual({
    code: 1,
    out: "",
    error: "Redis at redis://admin:***@127.0.0.1:1 does not answer: ECONNREFUSED\n",
  });
});

test("without a Redis, or with a bad name, it says what to give", async () => {
  expect(await keys(["list"], "")).toMatchObject({
    code: 1,
    error: "set REDIS_URL or pass --redis <url>\n",
  });
  expect((await keys(["create", "--name", ""])).error).toMatch(/^name must not be empty/);
  expect((await keys(["create", "--name", "x", "--tenant", "a b"])).error).toMatch(
    /^a tenant has 1 to 64/,
  );
});
