/** The operator's view of many queues. */
import type { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { queueOverview } from "../../../shared/queue/queue-overview.ts";
import { LANES_KEY, LEASE_GROUPS_KEY, LEASES_PREFIX } from "../../../shared/redis/keys.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = connectRedis(server.url, pino({ level: "silent" }));
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

test("of many queues a random sample is shown: those with running jobs too, each with all that run", async () => {
  const names = (kind: string) => Array.from({ length: 300 }, (_, i) => `${kind}-${i}`);
  await redis.sadd(LANES_KEY, ...names("waiting"));
  for (const [i, lane] of names("running").entries()) {
    const groups = [`++${lane}`, `weights-${i}++${lane}`];
    await redis.sadd(LEASE_GROUPS_KEY, ...groups);
    for (const group of groups) await redis.zadd(LEASES_PREFIX + group, 1, `job_${group}`);
  }
  const seen = new Set<string>();
  for (let reading = 0; reading < 40; reading++) {
    const { lanes, moreLanes } = await queueOverview(redis);
    expect([lanes.length, moreLanes]).toEqual([200, 400]);
    for (const { models, running } of lanes) {
      const [lane] = models as [string];
      seen.add(lane);
      expect({ lane, running }).toEqual({ lane, running: lane.startsWith("running") ? 2 : 0 });
    }
  }
  // A queue is left out of all 40 with a probability of (2/3)^40, about one in ten million.
  expect(seen.size).toBe(600);
});
