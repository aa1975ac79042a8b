/** Redis with a user of the least rights (infra/deploy/redis-user.acl), and with TLS and client certificates. */
import { execFileSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import OpenAI, { toFile } from "openai";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child, stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, REDIS_COMMAND, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { startReceiver } from "../support/receiver.ts";
import { allEvents, DEADLINE_MS, LONG_JOB, runToEnd, SHORT_JOB } from "./stack.ts";

const ROOT = join(import.meta.dirname, "../..");
const RULE = readFileSync(join(ROOT, "infra/deploy/redis-user.acl"), "utf8")
  .trim()
  .split(" ")
  .slice(2);
const PASSWORD = "PASSWORD";
const ENV = { WEBHOOK_ALLOW: "127.0.0.1" };

/** Certificates of an authority that exists only here, for localhost, valid from 2020 to 2120. */
const TLS = join(import.meta.dirname, "../support/tls");
const pem = (name: string) => readFileSync(join(TLS, name), "utf8");

afterAll(() => stopAllChildren());

/** Uses the API in all its main ways. */
async function useApi(redisUrl: string, tls: Readonly<Record<string, string>> = {}): Promise<void> {
  const env = { ...process.env, ...tls };
  const keys = join(ROOT, "infra/cli/keys.ts");
  const args = [keys, "--redis", redisUrl, "create", "--name", "first"];
  const output = execFileSync(process.execPath, args, { env, encoding: "utf8" });
  const key = /tt_[\w-]+/.exec(output)![0];
  const [worker, edge] = await Promise.all([
    startWorker({ redisUrl, env: { ...ENV, ...tls } }),
    startEdge({ redisUrl, env: { ...ENV, ...tls } }),
  ]);
  const client = new JobClient(edge.url, key);
  const receiver = await startReceiver(200);
  const hook = { url: receiver.url };
  expect(await runToEnd(client, { ...SHORT_JOB, webhook: hook })).toMatchObject({
    state: "succeeded",
  });
  await expect.poll(() => receiver.received.length, { timeout: DEADLINE_MS }).toBe(1);
  const cancelled = await client.submit({ ...LONG_JOB, max_tokens: 400 });
  await client.request(`/v1/jobs/${cancelled.id}/cancel`, { method: "POST" });
  expect((await allEvents(client, cancelled.id)).at(-1)?.type).toBe("cancelled");
  expect((await client.request("/v1/models")).status).toBe(200);
  expect((await client.request("/v1/jobs")).status).toBe(200);
  expect((await client.request("/v1/usage")).status).toBe(200);
  const openai = new OpenAI({ apiKey: key, baseURL: `${edge.url}/v1` });
  const body = { ...SHORT_JOB, stream: false };
  const line = { custom_id: "1", method: "POST", url: "/v1/chat/completions", body };
  const file = await toFile(Buffer.from(JSON.stringify(line)), "in.jsonl");
  const { id: inputId } = await openai.files.create({ file, purpose: "batch" });
  const endpoint = "/v1/chat/completions";
  const options = { input_file_id: inputId, endpoint, completion_window: "24h" } as const;
  const { id: batchId } = await openai.batches.create(options);
  const status = async () => (await openai.batches.retrieve(batchId)).status;
  await expect.poll(status, { timeout: DEADLINE_MS }).toBe("completed");
  await Promise.all([worker.stop(), edge.stop(), receiver.stop()]);
}

test("edge, worker and keys work with the documented user, which has no right that fails and none beyond its keys", async () => {
  const server = await startRedis();
  const admin = await connectRedis(server.url);
  onTestFinished(() => admin.disconnect());
  await admin.call("ACL", "SETUSER", "trimtab", ...RULE);
  await useApi(`redis://trimtab:${PASSWORD}@127.0.0.1:${server.port}`);
  expect(await admin.call("ACL", "LOG")).toEqual([]);

  const user = new Redis({ port: server.port, username: "trimtab", password: PASSWORD });
  onTestFinished(() => user.disconnect());
  await expect(user.get("other")).rejects.toThrow("NOPERM");
  const forbidden = ["FLUSHALL", "KEYS *", "CONFIG GET x", "SHUTDOWN", "ACL LIST"];
  for (const text of forbidden) {
    const [command = "", ...args] = text.split(" ");
    await expect(user.call(command, ...args)).rejects.toThrow("NOPERM");
  }
});

test("the documented user may run each command that a script uses", () => {
  const files = globSync("{shared,edge,worker}/**/*.ts", { cwd: ROOT });
  const scripts = globSync("node_modules/bullmq/dist/esm/scripts/*.js", { cwd: ROOT });
  const used = [...files, ...scripts].flatMap((file) =>
    [
      ...readFileSync(join(ROOT, file), "utf8").matchAll(
        /\b(?:redis\.p?call|rcall)\(\s*["'](\w+)/g,
      ),
    ].map(([, name]) => name!.toLowerCase()),
  );
  expect(used.length).toBeGreaterThan(300);
  const allowed = new Set(RULE.map((word) => word.slice(1)));
  expect([...new Set(used)].filter((name) => !allowed.has(name))).toEqual([]);
});

test("with TLS and a client certificate", async () => {
  const port = await freePort();
  const file = (name: string) => join(TLS, name);
  const server = new Child({
    name: REDIS_COMMAND,
    command: REDIS_COMMAND,
    args: Object.entries({
      port: "0",
      "tls-port": String(port),
      "tls-cert-file": file("server.crt"),
      "tls-key-file": file("server.key"),
      "tls-ca-cert-file": file("ca.crt"),
      "tls-auth-clients": "yes",
      "maxmemory-policy": "noeviction",
      save: "",
    }).flatMap(([name, value]) => [`--${name}`, value]),
  });
  await server.waitFor("its port", 10_000, () => server.output.includes("Ready to accept"));
  const tls = {
    REDIS_TLS_CA: pem("ca.crt"),
    REDIS_TLS_CERT: pem("client.crt"),
    REDIS_TLS_KEY: pem("client.key"),
  };
  const url = `rediss://localhost:${port}`;
  await expect(connectRedis(url)).rejects.toThrow("does not answer");
  await useApi(url, tls);
});
