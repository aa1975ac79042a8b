/** The roles that need no models: `deliver`, `batch` and `sweep`. */
import { bucketOf, type Bucket } from "../shared/files/bucket.ts";
import { commandsOf } from "../shared/redis/tags.ts";
import { removeLostUploads } from "../shared/files/lost-uploads.ts";
import { startBatchConsumer } from "./batches/consumer.ts";
import { keepModels } from "../shared/workers/registry.ts";
import type { WorkerEnv } from "./env.ts";
import { startQueueRepair } from "./jobs/queue-repair.ts";
import { startSweeper } from "./jobs/sweeper.ts";
import type { Part, PartDeps } from "./part.ts";
import { repeat } from "./redis/repeat.ts";
import { watchQueueGauges } from "./telemetry/queue-gauges.ts";
import type { QueueSums } from "./telemetry/queue-sums.ts";
import { startDeliverer } from "./webhooks/deliverer.ts";

/** Starts the roles among these that the process has, for one shard. */
export function startServices(env: WorkerEnv, deps: PartDeps, gauges: QueueSums): Part[] {
  const { ROLES: roles } = env;
  const isPaused = () => deps.clock.problem !== null;
  const consumers = [
    ...(roles.has("deliver")
      ? [
          startDeliverer({
            ...deps,
            isPaused,
            now: () => deps.clock.now(),
            postOptions: { allowed: env.WEBHOOK_ALLOW },
          }),
        ]
      : []),
    ...(roles.has("batch")
      ? [
          startBatchConsumer({
            ...deps,
            isPaused,
            bucket: bucketOf(env),
            webhookAllow: env.WEBHOOK_ALLOW,
            openLinesMax: env.BATCH_LINES,
          }),
        ]
      : []),
  ];
  const parts = consumers.map((consumer) => ({
    ready: () => consumer.waitUntilReady(),
    close: () => consumer.close(),
  }));
  if (!roles.has("sweep")) return parts;
  return [...parts, startSweep(deps, bucketOf(env), env.KEEP_MODELS, gauges)];
}

/** Interval at which models are kept known. */
const KEEP_INTERVAL_MS = 60_000;
/** Interval at which lost uploads are looked for. */
const UPLOADS_INTERVAL_MS = 60_000;

function startSweep(
  deps: PartDeps,
  bucket: Bucket | null,
  keptModels: readonly string[],
  gauges: QueueSums,
): Part {
  const { shard, log } = deps;
  const redis = commandsOf(deps.connection);
  const stops = [
    startSweeper(deps),
    startQueueRepair(deps),
    watchQueueGauges({
      ...deps,
      onGauges: (counts) => gauges.setGauges(shard, counts),
      onModels: (models) => gauges.setModels(shard, models),
    }),
  ];
  if (keptModels.length > 0) {
    const keeping = repeat(() => keepModels(redis, keptModels), {
      everyMs: KEEP_INTERVAL_MS,
      onError: (error) => log.warn({ err: error }, "Could not keep models known"),
    });
    stops.push(keeping.stop);
  }
  if (bucket) {
    const uploads = repeat(() => removeLostUploads(redis, bucket), {
      everyMs: UPLOADS_INTERVAL_MS,
      onError: (error) => log.warn({ err: error }, "Could not remove lost uploads from the bucket"),
    });
    stops.push(uploads.stop);
  }
  return {
    close: async () => {
      for (const stop of stops) stop();
    },
  };
}
