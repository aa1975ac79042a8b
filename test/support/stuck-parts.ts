/** Parts of a worker that wait until a test lets them go on. */
import type { Redis } from "ioredis";
import { NO_USAGE } from "../../worker/engine-client/messages.ts";
import type { JobConsumerDeps } from "../../worker/jobs/consumer.ts";

/** An engine that never generates a token, and ends when it is stopped. */
export const silentEngine: JobConsumerDeps["engine"]["run"] = async function* (_t, _g, _r, signal) {
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  yield { type: "end", finish: null, usage: NO_USAGE };
};

/**
 * A connection to Redis whose SMEMBERS wait for `answer`.
 * @returns `looking` resolves with the first of them
 */
export function slowLookups(redis: Redis) {
  const connection = redis.duplicate();
  const smembers = connection.smembers.bind<(key: string) => Promise<string[]>>(connection);
  const looking = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  connection.smembers = async (key: unknown) => {
    looking.resolve();
    await answered.promise;
    return smembers(String(key));
  };
  return { connection, looking: looking.promise, answer: answered.resolve };
}
