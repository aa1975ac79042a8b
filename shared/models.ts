/** The ensembles that workers serve, as they announce them in Redis. */
import * as v from "valibot";
import { ModelCard } from "./job.ts";
import { fromJson } from "./record-fields.ts";
import type { RedisClient } from "./redis-client.ts";
import { MODELS_KEY } from "./redis-keys.ts";

const parse = (json: string) => v.parse(v.pipe(fromJson, ModelCard), json);

/** By name. */
export async function readModels(redis: RedisClient): Promise<ModelCard[]> {
  const cards = Object.values(await redis.hgetall(MODELS_KEY)).map(parse);
  return cards.sort((a, b) => (a.id < b.id ? -1 : 1));
}

export async function readModel(redis: RedisClient, id: string): Promise<ModelCard | null> {
  const card = await redis.hget(MODELS_KEY, id);
  return card === null ? null : parse(card);
}
