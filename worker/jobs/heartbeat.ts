/** Tells Redis every two seconds that this worker lives, which models it serves and how fast (shared/workers/registry.ts). */
import type { Logger } from "pino";
import type { RedisClient } from "../../shared/redis/client.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import {
  HEARTBEAT_MS,
  readModel,
  removeWorker,
  sendHeartbeat,
  type HeartbeatReply,
} from "../../shared/workers/registry.ts";
import type { EngineClient } from "../engine-client/client.ts";
import type { WatchedClock } from "../redis/clock.ts";
import { repeat } from "../redis/repeat.ts";
import type { AwayModels } from "./away-models.ts";
import type { EngineMeter } from "./engine-meter.ts";
import type { ThroughputMeter } from "./throughput.ts";

export interface HeartbeatDeps {
  readonly redis: RedisClient;
  /** Names this worker in Redis. */
  readonly workerId: string;
  readonly version: string;
  /** The models that the worker serves; they may change. */
  readonly engine: Pick<EngineClient, "cards">;
  readonly away: Pick<AwayModels, "reasons" | "remote">;
  readonly throughput: Pick<ThroughputMeter, "report">;
  readonly engineMeter: Pick<EngineMeter, "report">;
  /** Called once, when the operator drains this worker. */
  readonly onDrain: () => void;
  readonly clock: Pick<WatchedClock, "now" | "problem">;
  readonly log: Logger;
}

/**
 * Sends a heartbeat at once, and then every two seconds. Resolves after the first one.
 * @returns a function that stops the heartbeats and removes this worker from Redis
 */
export async function startHeartbeat(deps: HeartbeatDeps): Promise<() => void> {
  const { redis, workerId, version, throughput, log } = deps;
  const cards = new Map<ModelCard, ModelCard>();
  let last: HeartbeatReply | null = null;
  const warned = new Set<string>();
  const send = async () => {
    const served = deps.engine.cards;
    for (const card of served) {
      if (!cards.has(card)) cards.set(card, await withFirstTime(deps, card));
    }
    const models = served.map(({ id, fingerprint, reproducible, jobTokensMax }) => {
      const away = deps.away.reasons.get(id);
      const isRemote = deps.away.remote.has(id);
      return {
        id,
        fingerprint,
        reproducible,
        ...(isRemote && { isRemote }),
        ...(away !== undefined && { away }),
        ...(jobTokensMax && { jobTokensMax }),
      };
    });
    const engine = deps.engineMeter.report();
    const { problem } = deps.clock;
    const report = {
      version,
      throughput: throughput.report(),
      engine,
      models,
      ...(problem !== null && { problem }),
    };
    const shown = served.map((card) => cards.get(card)!);
    const reply = await sendHeartbeat(redis, workerId, report, shown, last);
    if (reply.isDraining && last?.isDraining !== true) deps.onDrain();
    last = reply;
    const differing = [
      ...reply.otherWeights.map((model) => [model, "other weights, tokenizers or templates"]),
      ...reply.otherAlphas.map((model) => [model, "another range or default of alpha"]),
    ] as const;
    for (const [model, what] of differing.filter(([id]) => !warned.has(id!))) {
      warned.add(model!);
      log.warn(
        { model },
        `Another worker serves ${what} under this model's name, or did so within the last 10 s. The worker that was started last decides what the API says of it`,
      );
    }
  };
  const { firstSuccess, stop } = repeat(send, {
    everyMs: HEARTBEAT_MS,
    onError: (error) => log.warn({ err: error }, "Could not send the heartbeat"),
  });
  await firstSuccess;
  return () => {
    stop();
    removeWorker(redis, workerId).catch(() => {});
  };
}

/** The card with the time at which a worker first served the same weights under this name. */
async function withFirstTime({ redis, clock }: HeartbeatDeps, card: ModelCard): Promise<ModelCard> {
  const known = await readModel(redis, card.id);
  const isSame = known?.fingerprint === card.fingerprint;
  return { ...card, createdAtMs: isSame ? known.createdAtMs : clock.now() };
}
