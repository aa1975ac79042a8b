/** The order in which a worker's shards start (shard.ts): those that answer are served while others do not. */
import type { WorkerShard } from "./shard.ts";

type StartingShard = Pick<WorkerShard, "away" | "close">;

/**
 * Resolves when each shard has started or did not answer, and one has started. Those that did not answer start when they do.
 * @param start connects to a shard and starts its parts
 * @throws the error of a shard that cannot start. One that answers only when others are served is closed instead: their jobs go on
 */
export async function startShards<Shard extends StartingShard>(
  shards: readonly Shard[],
  start: (shard: Shard) => Promise<void>,
): Promise<void> {
  let isServing = false;
  const starts = shards.map(async (shard) => {
    let wasAway = false;
    void shard.away.then(() => (wasAway = true));
    try {
      await start(shard);
      isServing = true;
    } catch (error) {
      if (!wasAway || !isServing) throw error;
      shard.close(error instanceof Error ? error.message : String(error));
    }
  });
  await Promise.all(shards.map((shard, i) => Promise.race([starts[i], shard.away])));
  await Promise.race(starts);
}
