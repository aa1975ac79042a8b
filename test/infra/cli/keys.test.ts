/** `npm run keys` with a real Redis: what it prints, what it stores, and its error messages. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { hashApiKey } from "../../../shared/keys/secrets.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { keyHashKey } from "../../../shared/redis/keys.ts";
import { connectRedis, startRedis, type RedisServer } from "../../../infra/stack/redis.ts";

const KEYS = join(import.meta.dirname, "../../../infra/cli/keys.ts");
let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

function keys(args: readonly string[], redisUrl = server.url): Promise<CommandResult> {
  return new Promise((resolve) => {
    const env = { ...process.env, REDIS_URL: redisUrl };
    execFile(process.execPath, [KEYS, ...args], { env }, (failure, out, error) => {
      resolve({ code: Number(failure?.code ?? 0), out, error });
    });
  });
}

/** The value on the line that starts with a label. */
function labelledValue(out: string, label: string): string {
  return new RegExp(`^${label} +(\\S+)`, "m").exec(out)?.[1] ?? "";
}

test("a key is shown once, and only its hash is stored", async () => {
  const { code, out } = await keys(["create", "--name", "acme production"]);
  expect(code).toBe(0);
  const key = labelledValue(out, "API key");
  expect(key).toMatch(/^tt_[\w-]{43}$/);

  const redis = await connectRedis(server.url);
  expect(await new KeyRegistry(redis).authenticate(await hashApiKey(key))).toMatchObject({
    id: labelledValue(out, "key id"),
    name: "acme production",
    tenant: labelledValue(out, "tenant"),
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
  const secret = labelledValue(first.out, "webhook secret");
  expect(() => new Webhook(secret)).not.toThrow();
  const second = await keys(["create", "--name", "b", "--tenant", "acme"]);
  expect(labelledValue(second.out, "tenant")).toBe("acme");
  expect(second.out).not.toContain("webhook secret");
  expect((await keys(["secret", "--tenant", "acme"])).out.trim()).toBe(secret);

  const rotated = (await keys(["secret", "--tenant", "acme", "--rotate"])).out.trim();
  expect(rotated).not.toBe(secret);
  expect((await keys(["secret", "--tenant", "acme"])).out.trim()).toBe(rotated);
});

test("the secret of a new key is printed although another shard takes no writes", async () => {
  const redis = await connectRedis(server.url);
  onTestFinished(() => redis.disconnect());
  await redis.call("ACL", "SETUSER", "full", "on", "nopass", "~*", "&*", "+@all", "-hset");
  const [first, second] = [5, 6].map((db) => `${server.url}/${db}`);
  const full = first!.replace("redis://", "redis://full:any@");
  // Databases of one server stand for two shards.
  const { code, out } = await keys(
    ["create", "--name", "new", "--shard", "1"],
    `${full} ${second}`,
  );
  expect(labelledValue(out, "API key")).toMatch(/^tt1_/);
  expect(labelledValue(out, "webhook secret")).not.toBe("");
  expect(out).toContain("not all shards know");
  expect(code).toBe(0);
});

test("keys created without a tenant do not share one", async () => {
  const [a, b] = await Promise.all([1, 2].map(() => keys(["create", "--name", "same"])));
  expect(labelledValue(a?.out ?? "", "tenant")).not.toBe(labelledValue(b?.out ?? "", "tenant"));
});

test("a key has the scopes and limits that it was created with", async () => {
  const limits =
    "--requests-per-minute 5 --tokens-per-minute 900 --concurrent-jobs 2 --alpha -1..3 --models a,b";
  const args = ["create", "--name", "a", "--scopes", "jobs:read,admin", ...limits.split(" ")];
  const { out } = await keys(args);
  const redis = await connectRedis(server.url);
  expect(await new KeyRegistry(redis).get(labelledValue(out, "key id"))).toMatchObject({
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
});

test.for([
  ["--alpha", "foo", "'--alpha <min..max>' argument 'foo' is invalid. Expected two numbers,"],
  ["--alpha", "3..1", "'--alpha <min..max>' argument '3..1' is invalid. Expected two numbers,"],
  ["--alpha", "-1..3000", "--alpha: max must be at most"],
  ["--scopes", "foo", "'--scopes <scopes>' argument 'foo' is invalid. The scopes are jobs:write,"],
  ["--concurrent-jobs", "few", "Expected a number"],
  ["--concurrent-jobs", "0", "--concurrent-jobs must be at least 1"],
  ["--models", "a,", "--models must not be empty"],
] as const)("the error for %s %s names the option", async ([option, value, message]) => {
  const { code, error } = await keys(["create", "--name", "a", option, value]);
  expect(code).toBe(1);
  expect(error).toContain(message);
  expect(error.trimEnd()).not.toContain("\n");
});

test("a key for a model that no worker serves is created, with a note", async () => {
  const { code, out } = await keys(["create", "--name", "a", "--models", "nope"]);
  expect(code).toBe(0);
  expect(labelledValue(out, "API key")).toMatch(/^tt_/);
  expect(out).toContain("\nnote            no worker serves the model nope now\n");
});

test("with several Redis, a tenant's keys name its shard, and the order of the URLs must not change", async () => {
  const servers = await Promise.all([startRedis(), startRedis()]);
  const [first, second] = servers.map(({ url }) => url);
  const both = `${first} ${second}`;
  // The emptiest shard is taken for a new tenant.
  const a = await keys(["create", "--name", "a", "--tenant", "a"], both);
  const b = await keys(["create", "--name", "b", "--tenant", "b"], both);
  expect(labelledValue(a.out, "API key")).toMatch(/^tt_/);
  expect(labelledValue(b.out, "API key")).toMatch(/^tt1_/);
  // The URL of one shard leads to it.
  const more = await keys(["create", "--name", "b2", "--tenant", "b"], second);
  expect(labelledValue(more.out, "API key")).toMatch(/^tt1_/);
  const rotated = await keys(["rotate", labelledValue(b.out, "key id")], both);
  expect(labelledValue(rotated.out, "API key")).toMatch(/^tt1_/);
  expect((await keys(["list"], both)).out.trim().split("\n")).toHaveLength(4);
  const moved = await keys(["create", "--name", "b3", "--tenant", "b", "--shard", "0"], both);
  expect(moved.error).toBe("The tenant b is on shard 1: it cannot be moved\n");
  const swapped = await keys(["list"], `${second} ${first}`);
  expect(swapped.error).toMatch(/^URL \d of REDIS_URL leads to the Redis that was URL \d: /);
  await Promise.all(servers.map((server) => server.stop()));
});

test("a rotated key keeps its id and gets a new secret; the old one stays valid for the overlap", async () => {
  const { out } = await keys(["create", "--name", "old"]);
  const id = labelledValue(out, "key id");
  const hash = await hashApiKey(labelledValue(out, "API key"));
  const rotated = await keys(["rotate", id, "--overlap", "3600"]);
  const redis = await connectRedis(server.url);
  const registry = new KeyRegistry(redis);
  expect(await registry.authenticate(hash)).toMatchObject({ id });
  expect(await redis.ttl(keyHashKey(hash))).toBeGreaterThan(3_500);
  const newHash = await hashApiKey(labelledValue(rotated.out, "API key"));
  expect(await registry.authenticate(newHash)).toMatchObject({ id });
  expect(await redis.ttl(keyHashKey(newHash))).toBe(-1);
  redis.disconnect();
});

test("a revoked key is removed from the list and from Redis", async () => {
  const { out } = await keys(["create", "--name", "brief"]);
  const id = labelledValue(out, "key id");
  const list = (await keys(["list"])).out;
  expect(list).toMatch(/^key id +created +tenant +scopes +limits +name\n/);
  expect(list).toContain(`${id}  `);
  expect((await keys(["revoke", id])).out).toBe(`revoked ${id}\n`);
  expect((await keys(["list"])).out).not.toContain(id);
  const redis = await connectRedis(server.url);
  expect(await redis.exists(keyHashKey(await hashApiKey(labelledValue(out, "API key"))))).toBe(0);
  redis.disconnect();
  expect(await keys(["revoke", id])).toMatchObject({ code: 1, error: `There is no key ${id}\n` });
});

test("if Redis does not answer, one line says so, without the password", async () => {
  expect(await keys(["list"], "redis://admin:secret@127.0.0.1:1")).toEqual({
    code: 1,
    out: "",
    error: "Redis at redis://admin:***@127.0.0.1:1 does not answer: ECONNREFUSED\n",
  });
});

test("the error for an invalid Redis URL is one line without the URL", async () => {
  expect(await keys(["list"], "http://secret")).toEqual({
    code: 1,
    out: "",
    error:
      "Redis URL: Expected a redis://, rediss://, redis+sentinel://host:port,…/master or redis+cluster://host:port,… URL\n",
  });
  expect((await keys(["list"], "redis://:%zz@host")).error).toBe("Redis URL: URI malformed\n");
});

test("without a Redis URL, or with a bad name, the error says what is expected", async () => {
  expect(await keys(["list"], "")).toMatchObject({
    code: 1,
    error: "Set REDIS_URL or pass --redis <url>\n",
  });
  expect((await keys(["create", "--name", ""])).error).toMatch(/^name must not be empty/);
  expect((await keys(["create", "--name", "x", "--tenant", "a b"])).error).toMatch(
    /^tenant: 1 to 64/,
  );
});
