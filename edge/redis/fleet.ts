/** The workers and the models that they serve: what requests ask of them, and what the operator does with them. */
import type { RedisClient } from "../../shared/redis/client.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import { pausedModels, pauseModel, resumeModel } from "../../shared/workers/model-pauses.ts";
import {
  drainWorker,
  listModels,
  liveWorkers,
  readModel,
  workersServing,
  type KnownModel,
  type LiveWorker,
} from "../../shared/workers/registry.ts";
import type { CardCache } from "./card-cache.ts";

export class Fleet {
  readonly #redis: RedisClient;
  readonly #cards: CardCache | undefined;

  constructor(redis: RedisClient, cards?: CardCache) {
    this.#redis = redis;
    this.#cards = cards;
  }

  /** The ensembles that workers serve, or have served within the last day. */
  models(): Promise<KnownModel[]> {
    return listModels(this.#redis);
  }

  /** The card of a known model. */
  model(id: string): Promise<ModelCard | null> {
    const read = () => readModel(this.#redis, id);
    return this.#cards?.get(id, read) ?? read();
  }

  /** The live workers that take jobs for a model. */
  workersOf(modelId: string): Promise<LiveWorker[]> {
    return workersServing(this.#redis, [modelId]);
  }

  /** All live workers. */
  workers(): Promise<LiveWorker[]> {
    return liveWorkers(this.#redis);
  }

  /** Since when each paused model is paused (Unix ms), by its id. */
  pausedModels(): Promise<ReadonlyMap<string, number>> {
    return pausedModels(this.#redis);
  }

  pauseModel(id: string): Promise<void> {
    return pauseModel(this.#redis, id);
  }

  resumeModel(id: string): Promise<void> {
    return resumeModel(this.#redis, id);
  }

  /** @returns false if no such worker lives */
  drainWorker(id: string): Promise<boolean> {
    return drainWorker(this.#redis, id);
  }
}
