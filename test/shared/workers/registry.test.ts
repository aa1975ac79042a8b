/** Which workers live, and which models they serve. A worker's silence is played by moving its last heartbeat back. */
import { Redis } from "ioredis";
import { afterAll, beforeEach, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import {
  DRAINING_WORKERS_KEY,
  MODELS_SEEN_KEY,
  WORKER_REPORTS_KEY,
  WORKERS_KEY,
} from "../../../shared/redis/keys.ts";
import type { ModelCard } from "../../../shared/workers/model-card.ts";
import {
  canServe,
  drainWorker,
  keepModels,
  listModels,
  liveWorkers,
  readModel,
  removeWorker,
  sendHeartbeat,
  workersServing,
} from "../../../shared/workers/registry.ts";

const server = await startRedis();
const redis = new Redis(server.url);
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(() => redis.flushall());

const throughput = {
  slots: 4,
  busy: 1,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};
const card = (id: string, fingerprint = "weights"): ModelCard => ({
  id,
  description: "",
  createdAtMs: 1,
  contextTokens: 8,
  vocabSize: 8,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "base",
  fingerprint,
  reproducible: true,
});
const report = (cards: ModelCard[]) => ({ version: "1", throughput, models: cards });
const beat = async (worker: string, ...cards: ModelCard[]) =>
  (await sendHeartbeat(redis, worker, report(cards), cards)).otherWeights;
const serving = async (...ids: string[]) => (await workersServing(redis, ids)).length;

/** Plays that a worker's last heartbeat, or the last one with a model, is older by this. */
const silence = async (key: string, member: string, seconds: number) =>
  redis.zincrby(key, -seconds * 1000, member);

test("a worker serves its models from its first heartbeat on, until it is removed or silent for 10 s", async () => {
  const beforeMs = Date.now();
  await beat("a", card("x"), card("y"));
  await beat("b", card("y"), card("z"));
  expect(await Promise.all([serving("x"), serving("y"), serving("x", "z")])).toEqual([1, 2, 0]);
  const [first] = await workersServing(redis, ["x"]);
  expect(first).toMatchObject({ version: "1", throughput });
  expect(Math.abs(first!.sinceMs - beforeMs)).toBeLessThan(5_000);
  await beat("a", card("x"), card("y"));
  expect((await workersServing(redis, ["x"]))[0]?.sinceMs).toBe(first!.sinceMs);

  await silence(WORKERS_KEY, "a", 11);
  expect(await Promise.all([serving("x"), serving("y")])).toEqual([0, 1]);
  await beat("b", card("y"), card("z"));
  expect(await redis.hkeys(WORKER_REPORTS_KEY)).toEqual(["b"]);
  await removeWorker(redis, "b");
  expect(await serving("y")).toBe(0);
});

test("a model without a worker stays known for a day", async () => {
  await beat("a", card("x"));
  await removeWorker(redis, "a");
  expect(await listModels(redis)).toEqual([{ card: card("x"), workers: [] }]);
  expect(await readModel(redis, "x")).toEqual(card("x"));
  await silence(MODELS_SEEN_KEY, "x", 23 * 3_600);
  await beat("b", card("y"));
  expect((await listModels(redis)).map((model) => model.card.id)).toEqual(["x", "y"]);
  await silence(MODELS_SEEN_KEY, "x", 3_700);
  await beat("b", card("y"));
  expect((await listModels(redis)).map((model) => model.card.id)).toEqual(["y"]);
  expect(await readModel(redis, "x")).toBeNull();
});

test("workers that serve other weights under the same name learn of each other", async () => {
  expect(await beat("a", card("x"), card("y"))).toEqual([]);
  expect(await beat("b", card("x", "other"), card("y"))).toEqual(["x"]);
  expect(await beat("a", card("x"), card("y"))).toEqual(["x"]);
  // A worker that was replaced by one with new weights is no reason for a warning.
  await silence(MODELS_SEEN_KEY, "x", 11);
  expect(await beat("b", card("x", "other"))).toEqual([]);
});

test("of live workers with different ranges of alpha the one that was started last decides, and each learns of it", async () => {
  const [older, newer] = [card("x"), { ...card("x"), alphaMax: 0.5, alphaDefault: 0.2 }];
  const send = (worker: string, own: ModelCard) =>
    sendHeartbeat(redis, worker, report([own]), [own]);
  await send("b", older);
  expect(await redis.hget(WORKER_REPORTS_KEY, "b")).not.toBeNull();
  // Another millisecond than that of the first heartbeat.
  await redis.hset(WORKER_REPORTS_KEY, "b", `1 ${JSON.stringify(report([older]))}`);
  expect(await send("a", newer)).toMatchObject({ otherAlphas: ["x"], otherWeights: [] });
  expect(await send("b", older)).toMatchObject({ otherAlphas: ["x"] });
  expect(await readModel(redis, "x")).toEqual(newer);
  expect(await send("a", newer)).toMatchObject({ otherAlphas: [] });
  await removeWorker(redis, "a");
  await send("b", older);
  expect(await readModel(redis, "x")).toEqual(older);
});

test("a worker that reports a problem serves nothing until it is gone", async () => {
  const cards = [card("x")];
  await sendHeartbeat(redis, "a", { ...report(cards), problem: "Wrong clock" }, cards);
  expect(await serving("x")).toBe(0);
  const [worker] = await liveWorkers(redis);
  expect([worker?.problem, canServe(worker!, ["x"])]).toEqual(["Wrong clock", false]);
  await beat("a", ...cards);
  expect(await serving("x")).toBe(1);
});

test("a heartbeat is accepted when Redis is full", async () => {
  await redis.config("SET", "maxmemory", "1");
  await expect(redis.set("anything", "1")).rejects.toThrow("OOM");
  await beat("a", card("x"));
  expect(await serving("x")).toBe(1);
  await redis.config("SET", "maxmemory", "0");
});

test("a drained worker serves nothing until its process ends, although it is lost meanwhile", async () => {
  const cards = [card("x")];
  await beat("a", ...cards);
  await beat("b", ...cards);
  expect(await drainWorker(redis, "gone")).toBe(false);
  expect(await drainWorker(redis, "a")).toBe(true);
  const drained = async () =>
    (await liveWorkers(redis)).filter(({ isDraining }) => isDraining).map(({ id }) => id);
  expect(await drained()).toEqual(["a"]);
  const usable = (await liveWorkers(redis)).filter((worker) => canServe(worker, ["x"]));
  expect(usable.map(({ id }) => id)).toEqual(["b"]);
  expect(await serving("x")).toBe(1);
  const reply = await sendHeartbeat(redis, "a", report(cards), cards);
  expect(reply.isDraining).toBe(true);

  await silence(WORKERS_KEY, "a", 11);
  await beat("b", ...cards);
  expect(await redis.exists(DRAINING_WORKERS_KEY)).toBe(0);
  await sendHeartbeat(redis, "a", report(cards), cards, reply);
  expect(await drained()).toEqual(["a"]);
  const again = (await liveWorkers(redis)).find(({ id }) => id === "a");
  expect(again?.sinceMs).toBe(reply.sinceMs);

  // A worker that is lost and not yet removed.
  await silence(WORKERS_KEY, "a", 11);
  expect(await drainWorker(redis, "a")).toBe(false);

  await removeWorker(redis, "a");
  await beat("a", ...cards);
  expect(await drained()).toEqual([]);
});

test("a model that is kept stays known without a worker for more than a day, and one that was never known does not become so", async () => {
  await beat("worker", card("kept"), card("forgotten"));
  for (const id of ["kept", "forgotten"]) await silence(MODELS_SEEN_KEY, id, 25 * 3_600);
  await keepModels(redis, ["kept", "unknown"]);
  await beat("other", card("third"));
  expect((await listModels(redis)).map(({ card }) => card.id)).toEqual(["kept", "third"]);
});
