/** The checks of the Redis servers of several shards, which answer at different times. */
import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { ShardChecks } from "../../edge/server/shard-checks.ts";

const REFUSAL = "URL 2 was URL 1";

function start() {
  const events: unknown[] = [];
  const exits: string[] = [];
  const outcome = Promise.withResolvers<string>();
  const checks = new ShardChecks(
    ({ event, details }) => {
      events.push([event, details]);
      if (event === REFUSAL) outcome.resolve("logged");
    },
    (refusal) => {
      exits.push(refusal);
      outcome.resolve("exited");
    },
  );
  const watch = (shard: number, refusal: string | null = null) => {
    const redis = new EventEmitter();
    const questions = {
      check: async () => ({ refusal, warning: null }),
      requireWritable: async () => {},
    };
    return { redis, usable: checks.untilUsable(redis, questions, shard) };
  };
  return { watch, outcome: outcome.promise, events };
}

test("a shard that comes back with a wrong Redis does not end an edge that serves another shard", async () => {
  const { watch, outcome, events } = start();
  const [first, late] = [watch(0), watch(1, REFUSAL)];
  late.redis.emit("error", new Error("ECONNREFUSED"));
  first.redis.emit("ready");
  await first.usable;
  late.redis.emit("ready");
  expect(await outcome).toBe("logged");
  expect(events.at(-1)).toEqual([REFUSAL, { shard: 1 }]);
});

test("a wrong Redis that answers when it is first asked ends the edge, although another was faster", async () => {
  const { watch, outcome } = start();
  const [first, wrong] = [watch(0), watch(1, REFUSAL)];
  first.redis.emit("ready");
  await first.usable;
  wrong.redis.emit("ready");
  expect(await outcome).toBe("exited");
});
