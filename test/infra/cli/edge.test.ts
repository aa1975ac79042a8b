/** The lines that `npm run edge` prints: one if it cannot run, and which tell when Redis has answered. Each is JSON. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePort } from "../../../infra/stack/port.ts";
import { Child } from "../../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../../infra/stack/redis.ts";

const EDGE = join(import.meta.dirname, "../../../infra/cli/edge.ts");

/** Runs the edge, which must end by itself. @returns what it prints */
function edge(env: Readonly<Record<string, string>>): Promise<{ code: unknown; error: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [EDGE], { env: { ...process.env, ...env } }, (failure, _, error) => {
      resolve({ code: failure?.code, error });
    });
  });
}

/** The lines of a log. */
const linesOf = (log: string) =>
  log
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { readonly level: number; readonly msg: string });

test.for([
  ["Missing or invalid variables: REDIS_URL", { REDIS_URL: "" }],
  ["Missing or invalid variables: REDIS_URL", { REDIS_URL: "http://secret" }],
  [
    "Missing or invalid variables: REDIS_TIMEOUT_MS",
    { REDIS_URL: "redis://:secret@host", REDIS_TIMEOUT_MS: "soon" },
  ],
  [
    "Missing or invalid variables: PORT (see edge/server/settings.ts)",
    { REDIS_URL: "redis://host", PORT: "http" },
  ],
] as const)("it ends with one line: %s", async ([message, env]) => {
  const { code, error } = await edge(env);
  expect(code).toBe(1);
  expect(linesOf(error)).toEqual([
    expect.objectContaining({
      level: 60,
      msg: expect.stringContaining(`Configuration: ${message}`),
    }),
  ]);
  expect(error).not.toMatch(/secret|soon/);
});

test("an error that its start does not expect is a line too", async () => {
  const { code, error } = await edge({
    REDIS_URL: "redis://host",
    REDIS_TLS_CA: "-----BEGIN CERTIFICATE-----",
  });
  expect(code).toBe(1);
  expect(linesOf(error)).toEqual([
    expect.objectContaining({
      level: 60,
      msg: "The edge ends because of an error",
      err: expect.objectContaining({ message: expect.stringContaining("rediss://") }),
    }),
  ]);
});

test("with a port in use the edge does not wait", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const { code, error } = await edge({ REDIS_URL: "redis://127.0.0.1:1", PORT: String(port) });
  expect(code).toBe(1);
  expect(linesOf(error).at(-1)).toMatchObject({
    msg: `port ${port} is in use: stop the program that uses it or set PORT`,
  });
});

test("it listens at once, and is ready when Redis has answered and takes writes", async () => {
  const redisPort = await freePort();
  const port = await freePort();
  const env = { REDIS_URL: `redis://127.0.0.1:${redisPort}`, PORT: String(port) };
  const child = new Child({ name: "edge", command: process.execPath, args: [EDGE], env });
  onTestFinished(() => child.stop());
  await child.waitFor("the failed connect", 60_000, () => /not ready/.test(child.output));
  await child.waitForUrl(`http://127.0.0.1:${port}/healthz`, 60_000);
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(503);
  expect(child.output).toContain("Edge listening");
  expect(child.output).not.toContain("Edge ready");
  const redis = await startRedis({ port: redisPort, settings: { "min-replicas-to-write": "1" } });
  onTestFinished(() => redis.stop());
  const client = await connectRedis(redis.url);
  onTestFinished(() => client.disconnect());
  const refusals = async () => {
    const [, count = 0] = /NOREPLICAS:count=(\d+)/.exec(await client.info("errorstats")) ?? [];
    return Number(count);
  };
  await expect.poll(refusals, { timeout: 20_000 }).toBeGreaterThan(1);
  expect(child.output).not.toContain("Edge ready");
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(503);
  await client.config("SET", "min-replicas-to-write", "0");
  await child.waitFor("Redis", 60_000, () => child.output.includes('"Edge ready"'));
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
  expect(linesOf(child.output).at(-1)).toMatchObject({ level: 30, msg: "Edge ready" });
});
