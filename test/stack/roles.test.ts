/** Roles of worker processes: without models time still counts, and a crash of the engine ends nothing else. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { startRedis } from "../../infra/stack/redis.ts";
import type { Model } from "../../shared/api/models.ts";
import { sendHeartbeat } from "../../shared/workers/registry.ts";
import { adapterFolder } from "../support/adapters.ts";
import { startReceiver } from "../support/receiver.ts";
import { startRedisProxy } from "../support/redis-proxy.ts";
import { folderOf } from "../support/tokenizers.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  EventReader,
  generatingPids,
  LONG_JOB,
  runToEnd,
  seqOf,
  SHORT_JOB,
  textOf,
  tokenIds,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

const THROUGHPUT = {
  slots: 1,
  busy: 0,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};

/** Makes a model known, as a worker does that is gone since. */
async function knowModel(id: string): Promise<void> {
  const card = {
    id,
    description: "",
    createdAtMs: 0,
    contextTokens: 512,
    vocabSize: 4_096,
    tokenBytesMax: null,
    alphaDefault: 1,
    alphaMax: 2,
    base: "base",
    fingerprint: "other",
    reproducible: true,
  };
  const report = { version: "1", throughput: THROUGHPUT, models: [card] };
  await sendHeartbeat(stack.redis, "gone", report, [card]);
}

const exists = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test("a process without models expires a job in time and delivers its webhook while no worker generates", async () => {
  await knowModel("gone-model");
  const services = await stack.startWorker({
    ROLES: "deliver,batch,sweep",
    TRIMTAB_MODELS: "none",
  });
  const receiver = await startReceiver(200);
  const webhook = { url: receiver.url };
  const { id } = await stack.client.submit({
    ...SHORT_JOB,
    model: "gone-model",
    deadline: 2,
    webhook,
  });
  const end = (await allEvents(stack.client, id)).at(-1);
  expect(end).toMatchObject({ type: "expired", error: { code: "deadline_exceeded" } });
  const job = await stack.client.read(id);
  expect(job.ended_at! - job.created_at).toBeLessThan(10);
  await expect.poll(() => receiver.received.length, { timeout: DEADLINE_MS }).toBe(1);
  expect(readFileSync(`/proc/${services.child.pid}/maps`, "utf8")).not.toContain("onnxruntime");
  await services.stop();
  await receiver.stop();
});

test("when the generating process crashes, another one continues its jobs, and the worker goes on", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ LOCK_MS: "1000" });
  const [crashed] = generatingPids(worker);
  const { id } = await client.submit({ ...LONG_JOB, max_tokens: 400 });
  const reader = new EventReader(client, id);
  await reader.hasTokens(20);
  process.kill(crashed!, "SIGKILL");
  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(events.at(-1)?.type).toBe("succeeded");
  const undisturbed = await runToEnd(client, { ...LONG_JOB, max_tokens: 400 });
  expect(textOf(events)).toBe(undisturbed.output.text);
  expect(worker.child.output).toContain("The generating process was lost");
  expect(generatingPids(worker)).not.toContain(crashed);

  // The other way round: without its parent process the generating process ends at once.
  const [generating] = generatingPids(worker);
  const next = await client.submit({ ...LONG_JOB, max_tokens: 400 });
  const tokens = new EventReader(client, next.id);
  await tokens.hasTokens(5);
  process.kill(worker.child.pid!, "SIGKILL");
  await expect.poll(() => exists(generating!), { timeout: DEADLINE_MS }).toBe(false);
  expect(tokenIds(tokens.events).length).toBeLessThan(400);
  await client.cancel(next.id);
});

test("a worker follows its manifest: an adapter appears and goes, while a job runs on as if alone", async () => {
  const { client } = stack;
  const models = join(import.meta.dirname, "../../infra/models");
  const adapter = adapterFolder({ modules: { lm_head: [64, 2_048] } });
  const path = (name: string) => ({ path: join(models, name) });
  const entry = (id: string, changes: object = {}) => ({
    id,
    base: path("base"),
    expert: path("atlas-expert"),
    antiexpert: path("antiexpert"),
    ...changes,
  });
  const file = join(
    folderOf({ "ensembles.json": { ensembles: [entry("atlas-qa")] } }),
    "ensembles.json",
  );
  const write = (...ensembles: object[]) => writeFileSync(file, JSON.stringify({ ensembles }));
  const served = async () => {
    const { data } = (await (await client.request("/v1/models")).json()) as { data: Model[] };
    return data.filter(({ workers }) => workers > 0).map(({ id }) => id);
  };
  const worker = await stack.startWorker({ TRIMTAB_MODELS: file, LOG_LEVEL: "info" });
  const logs = (text: string) =>
    expect.poll(() => worker.child.output, { timeout: DEADLINE_MS }).toContain(text);
  const input = { ...LONG_JOB, max_tokens: 400 };
  const undisturbed = await runToEnd(client, input);
  const { id } = await client.submit(input);
  const reader = new EventReader(client, id);
  await reader.hasTokens(5);
  write(entry("atlas-qa"), entry("adapted", { expert: { adapter } }));
  worker.child.kill("SIGHUP");
  await logs("The worker follows the changed manifest");
  await expect.poll(served, { timeout: DEADLINE_MS }).toEqual(["adapted", "atlas-qa"]);
  const { output } = await runToEnd(client, { ...SHORT_JOB, model: "adapted" });
  expect(output.text).not.toBe((await runToEnd(client, SHORT_JOB)).output.text);
  expect(textOf(await reader.ended)).toBe(undisturbed.output.text);

  write(entry("atlas-qa", { alpha: 0.5 }));
  await logs("Ensemble atlas-qa: restart needed, because alpha changed");
  expect(await served()).toEqual(["adapted", "atlas-qa"]);
  // No signal: the change of the file is enough.
  write(entry("atlas-qa"));
  await expect.poll(served, { timeout: DEADLINE_MS }).toEqual(["atlas-qa"]);
  const waiting = await client.submit({ ...SHORT_JOB, model: "adapted" });
  await runToEnd(client, SHORT_JOB);
  expect((await client.read(waiting.id)).state).toBe("queued");
  await client.cancel(waiting.id);
  await worker.stop();
});

test("a model that cannot be loaded ends the worker with the reason", async () => {
  const failing = stack.startWorker({ TRIMTAB_MODELS: "/none.json", LOG_LEVEL: "info" });
  const { message } = await failing.then(
    () => expect.unreachable(),
    (error: Error) => error,
  );
  expect(message).toMatch(/exit code 1 before it was ready(.|\n)*\/none\.json: ENOENT/);
  expect(message).not.toContain("Worker ready");
});

/** Starts a worker whose Redis does not answer, and waits until the process lives. */
async function startWithoutRedis(roles: string) {
  const server = await startRedis();
  const proxy = await startRedisProxy(server.url);
  proxy.partition();
  const port = await freePort();
  const child = new Child({
    name: "worker",
    command: process.execPath,
    args: [join(import.meta.dirname, "../../worker/main.ts")],
    env: {
      REDIS_URL: proxy.url,
      HEALTH_PORT: String(port),
      ROLES: roles,
      LOG_LEVEL: "silent",
    },
  });
  const healthUrl = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${healthUrl}/healthz`, DEADLINE_MS);
  const close = async () => {
    proxy.close();
    await server.stop();
  };
  return { child, healthUrl, proxy, close };
}

test("a worker starts while Redis does not answer, and is ready when it does", async () => {
  const { child, healthUrl, proxy, close } = await startWithoutRedis(
    "generate,deliver,batch,sweep",
  );
  expect((await fetch(`${healthUrl}/readyz`)).status).toBe(503);
  proxy.heal();
  await child.waitForUrl(`${healthUrl}/readyz`, DEADLINE_MS);
  await child.stop();
  await close();
});

test.each(["generate", "generate,deliver,batch,sweep"])(
  "SIGTERM ends a worker with the roles %s while it waits for Redis",
  async (roles) => {
    const { child, close } = await startWithoutRedis(roles);
    const pids = roles === "generate" ? [] : generatingPids({ child });
    process.kill(child.pid!, "SIGTERM");
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(pids.filter(exists)).toEqual([]);
    await close();
  },
);

test("with Redis full, a worker that starts runs the accepted jobs", async () => {
  const { client, redis } = stack;
  const first = await stack.startWorker();
  await first.stop();
  const { id } = await client.submit(SHORT_JOB);
  await redis.config("SET", "maxmemory", "1");
  const second = await stack.startWorker();
  expect((await allEvents(client, id)).at(-1)?.type).toBe("succeeded");
  await redis.config("SET", "maxmemory", "0");
  await second.stop();
});
