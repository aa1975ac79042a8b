/**
 * Models that the operator has paused: their jobs are accepted and wait, and those that run go on. The script that takes a job
 * (jobs/take-script.ts) asks in the same step, so no job of a paused model starts.
 */
import type { RedisClient } from "../redis/client.ts";
import { PAUSED_MODELS_KEY, WORKERS_KEY } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** KEYS: paused models, workers. ARGV: id of a model. It works also when Redis is full, as a heartbeat does. */
const pauseScript = defineScript(`
redis.call('ZREM', KEYS[2], '')
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
`);

/** Pauses a model. One that is paused stays so, since the same time. */
export async function pauseModel(redis: RedisClient, id: string): Promise<void> {
  await pauseScript(redis, [PAUSED_MODELS_KEY, WORKERS_KEY], [id]);
}

/** Lets the jobs of a model start again. Workers notice it within a second. */
export async function resumeModel(redis: RedisClient, id: string): Promise<void> {
  await redis.hdel(PAUSED_MODELS_KEY, id);
}

/** Since when each paused model is paused (Unix ms), by its id. */
export async function pausedModels(redis: RedisClient): Promise<ReadonlyMap<string, number>> {
  const paused = await redis.hgetall(PAUSED_MODELS_KEY);
  return new Map(Object.entries(paused).map(([id, ms]) => [id, Number(ms)]));
}
