/**
 * The registry of workers and models. Each worker that generates sends a heartbeat with what it serves. A worker without a
 * heartbeat for 10 s counts as lost. A model that no worker serves any more is still known for a day: requests for it are
 * accepted, and their jobs wait.
 * This is the folder's main file. The folder knows Redis only through shared/redis/, and no jobs or queues.
 */
import * as v from "valibot";
import type { RedisClient } from "../redis/client.ts";
import {
  DRAINING_WORKERS_KEY,
  MODEL_WRITERS_KEY,
  MODELS_KEY,
  MODELS_SEEN_KEY,
  WORKER_REPORTS_KEY,
  WORKERS_KEY,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { ModelCardJson, type ModelCard } from "./model-card.ts";
import { WorkerReportJson, type WorkerReport } from "./worker-report.ts";

/** Time between two heartbeats of a worker. */
export const HEARTBEAT_MS = 2_000;
/** A worker without a heartbeat for this long is lost. */
const LOST_AFTER_MS = 10_000;
/** A model that no worker has served for this long is forgotten. */
const MODEL_TTL_MS = 24 * 3_600_000;

/** A worker whose last heartbeat is recent. */
export interface LiveWorker extends WorkerReport {
  /** Random id of its process. */
  readonly id: string;
  /** Unix ms of its last heartbeat. */
  readonly heartbeatMs: number;
  /** Unix ms of its first heartbeat. */
  readonly sinceMs: number;
  /** Whether it takes no more jobs, because the operator drains it. */
  readonly isDraining: boolean;
}

/** A model that some worker serves, or has served within the last day. */
export interface KnownModel {
  readonly card: ModelCard;
  /** The live workers that take jobs for it; empty if there is none. */
  readonly workers: readonly LiveWorker[];
}

/**
 * Of live workers with different cards of a model, the one that was started last decides, so that a rolling change of a manifest
 * takes effect once.
 *
 * KEYS: workers, their reports, models, models by last heartbeat, draining workers, writers of the models.
 * ARGV: id of the worker, report (JSON), what it knows of itself although it was lost meanwhile (1 if it is drained; the Unix ms of its
 * first heartbeat, or ''), then id and card (JSON) of each of its models.
 * Returns 1 if the worker is drained, the Unix ms of its first heartbeat, then the ids of those of these models that another worker served within the last 10 s: with
 * another fingerprint, and with another range of alpha.
 */
const heartbeatScript = defineScript(`
local workers, reports, models, seen, draining, writers = unpack(KEYS)
local worker = ARGV[1]
-- Redis refuses the first write of a script when its memory is full, unless that write needs none, as this one.
redis.call('ZREM', workers, '')
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local previous = redis.call('HGET', reports, worker)
local sinceMs = ARGV[4] ~= '' and ARGV[4] or previous and string.match(previous, '^%d+') or string.format('%d', nowMs)
redis.call('HSET', reports, worker, sinceMs .. ' ' .. ARGV[2])
redis.call('ZADD', workers, nowMs, worker)
if ARGV[3] == '1' then redis.call('SADD', draining, worker) end
-- Whether the model's card is from a live worker that was started after this one.
local function isNewerCard(id)
  local writer = redis.call('HGET', writers, id)
  local heartbeatMs = writer and redis.call('ZSCORE', workers, writer)
  if not heartbeatMs or tonumber(heartbeatMs) <= nowMs - ${LOST_AFTER_MS} then return false end
  local writerSinceMs = string.match(redis.call('HGET', reports, writer) or '0', '^%d+')
  if writerSinceMs == sinceMs then return writer > worker end
  return tonumber(writerSinceMs) > tonumber(sinceMs)
end
local otherWeights, otherAlphas = {}, {}
for i = 5, #ARGV, 2 do
  local id, card = ARGV[i], ARGV[i + 1]
  local known = redis.call('HGET', models, id)
  if known ~= card then
    local seenMs = tonumber(redis.call('ZSCORE', seen, id) or 0)
    if known and seenMs > nowMs - ${LOST_AFTER_MS} then
      local a, b = cjson.decode(known), cjson.decode(card)
      if a.fingerprint ~= b.fingerprint then table.insert(otherWeights, id)
      elseif a.alphaDefault ~= b.alphaDefault or a.alphaMax ~= b.alphaMax then table.insert(otherAlphas, id) end
    end
    if not known or not isNewerCard(id) then
      redis.call('HSET', models, id, card)
      redis.call('HSET', writers, id, worker)
    end
  end
  redis.call('ZADD', seen, nowMs, id)
end
for _, lost in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', nowMs - ${LOST_AFTER_MS})) do
  redis.call('HDEL', reports, lost)
  redis.call('ZREM', workers, lost)
  redis.call('SREM', draining, lost)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', nowMs - ${MODEL_TTL_MS})) do
  redis.call('HDEL', models, id)
  redis.call('HDEL', writers, id)
  redis.call('ZREM', seen, id)
end
return {redis.call('SISMEMBER', draining, worker), tonumber(sinceMs), otherWeights, otherAlphas}
`);

/**
 * KEYS: workers, their reports, draining workers. Returns of each live worker: id, time of its last heartbeat, `since report`, 1 if it
 * is drained.
 */
const liveWorkersScript = defineScript(`
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local found, reply = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. (nowMs - ${LOST_AFTER_MS}), '+inf', 'WITHSCORES'), {}
for i = 1, #found, 2 do
  local worker = found[i]
  local isDraining = redis.call('SISMEMBER', KEYS[3], worker)
  reply[#reply + 1] = {worker, found[i + 1], redis.call('HGET', KEYS[2], worker), isDraining}
end
return reply
`);

/**
 * KEYS: workers, draining workers. ARGV: id of a worker. Returns 0 if it does not live.
 * A worker that stops at the same time removes itself afterwards, or does not live any more.
 */
const drainScript = defineScript(`
local workers, draining = unpack(KEYS)
-- As in a heartbeat.
redis.call('ZREM', workers, '')
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', workers, ARGV[1]) or 0) <= nowMs - ${LOST_AFTER_MS} then return 0 end
redis.call('SADD', draining, ARGV[1])
return 1
`);

/** KEYS: models by last heartbeat. ARGV: ids of models. Those that are known count as served now. */
const keepModelsScript = defineScript(`
local time = redis.call('TIME')
for _, id in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', time[1] * 1000 + math.floor(time[2] / 1000), id)
end
`);

/** Keeps known models, as if a worker served them: for fleets that are at zero for longer than a day. */
export async function keepModels(redis: RedisClient, ids: readonly string[]): Promise<void> {
  await keepModelsScript(redis, [MODELS_SEEN_KEY], ids);
}

/** The reply to a heartbeat. */
export interface HeartbeatReply {
  /** Whether the operator drains it. */
  readonly isDraining: boolean;
  /** Unix ms of its first heartbeat. */
  readonly sinceMs: number;
  /** The ids of those of its models that another worker serves with other weights. */
  readonly otherWeights: readonly string[];
  /** The ids of those that another worker serves with another range of alpha. */
  readonly otherAlphas: readonly string[];
}

/**
 * Reports that a worker lives and what it serves. It works also when Redis is full.
 * @param last reply to its last heartbeat; Redis forgets a worker that was lost
 */
export async function sendHeartbeat(
  redis: RedisClient,
  workerId: string,
  report: WorkerReport,
  cards: readonly ModelCard[],
  last: HeartbeatReply | null = null,
): Promise<HeartbeatReply> {
  const models = cards.flatMap((card) => [card.id, JSON.stringify(card)]);
  const keys = [
    WORKERS_KEY,
    WORKER_REPORTS_KEY,
    MODELS_KEY,
    MODELS_SEEN_KEY,
    DRAINING_WORKERS_KEY,
    MODEL_WRITERS_KEY,
  ];
  const known = [last?.isDraining ? 1 : 0, last?.sinceMs ?? ""];
  const args = [workerId, JSON.stringify(report), ...known, ...models];
  type Reply = [0 | 1, sinceMs: number, otherWeights: string[], otherAlphas: string[]];
  const [isDrained, sinceMs, otherWeights, otherAlphas] = (await heartbeatScript(
    redis,
    keys,
    args,
  )) as Reply;
  return { isDraining: isDrained === 1, sinceMs, otherWeights, otherAlphas };
}

/**
 * From now on the worker takes no jobs, until its process ends; those that it has go on.
 * @returns false if no such worker lives
 */
export async function drainWorker(redis: RedisClient, workerId: string): Promise<boolean> {
  return (await drainScript(redis, [WORKERS_KEY, DRAINING_WORKERS_KEY], [workerId])) === 1;
}

/** Removes a worker that stops. Its models stay known. */
export async function removeWorker(redis: RedisClient, workerId: string): Promise<void> {
  await redis.zrem(WORKERS_KEY, workerId);
  await redis.hdel(WORKER_REPORTS_KEY, workerId);
  await redis.srem(DRAINING_WORKERS_KEY, workerId);
}

/** The live workers that take jobs for every one of the models. */
export async function workersServing(
  redis: RedisClient,
  modelIds: readonly string[],
): Promise<LiveWorker[]> {
  return servingAll(await liveWorkers(redis), modelIds);
}

/** Whether any model is known. None is before the first heartbeat of the first worker on a new Redis. */
export async function hasModels(redis: RedisClient): Promise<boolean> {
  return (await redis.exists(MODELS_KEY)) === 1;
}

/** All known models, sorted by id. */
export async function listModels(redis: RedisClient): Promise<KnownModel[]> {
  const [cards, workers] = await Promise.all([redis.hgetall(MODELS_KEY), liveWorkers(redis)]);
  return Object.values(cards)
    .map((json) => v.parse(ModelCardJson, json))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map((card) => ({ card, workers: servingAll(workers, [card.id]) }));
}

/** The card of a known model, whether or not a worker serves it now; null for an unknown id. */
export async function readModel(redis: RedisClient, id: string): Promise<ModelCard | null> {
  const json = await redis.hget(MODELS_KEY, id);
  return json === null ? null : v.parse(ModelCardJson, json);
}

/** The workers whose last heartbeat is recent. */
export async function liveWorkers(redis: RedisClient): Promise<LiveWorker[]> {
  const keys = [WORKERS_KEY, WORKER_REPORTS_KEY, DRAINING_WORKERS_KEY];
  type Entry = [id: string, heartbeatMs: string, entry: string | null, isDraining: 0 | 1];
  const entries = (await liveWorkersScript(redis, keys)) as Entry[];
  return entries.flatMap(([id, heartbeatMs, entry, isDraining]) => {
    if (entry === null) return [];
    const space = entry.indexOf(" ");
    const report = v.parse(WorkerReportJson, entry.slice(space + 1));
    const sinceMs = Number(entry.slice(0, space));
    return {
      ...report,
      id,
      heartbeatMs: Number(heartbeatMs),
      sinceMs,
      isDraining: isDraining === 1,
    };
  });
}

const takesJobs = ({ isDraining, problem }: LiveWorker) => !isDraining && problem === undefined;

/** Whether the worker can serve all these models now: it takes jobs, and none of their bases is away. */
export const canServe = (worker: LiveWorker, ids: readonly string[]) =>
  takesJobs(worker) &&
  ids.every((id) => worker.models.some((model) => model.id === id && model.away === undefined));

const servingAll = (workers: readonly LiveWorker[], ids: readonly string[]) =>
  workers.filter(
    (worker) =>
      takesJobs(worker) && ids.every((id) => worker.models.some((model) => model.id === id)),
  );
