import { resolve } from "node:path";
import { expect, test } from "vitest";
import { readEnv } from "../../worker/env.ts";

const REDIS_URL = "redis://localhost:6379";

test("all but the Redis URL has a default", () => {
  const env = readEnv({ REDIS_URL });
  expect(env).toMatchObject({ REDIS_URL, SLOTS: 8, LOCK_MS: 6_000, HEALTH_PORT: 9_090 });
  expect(env.TRIMTAB_MODELS).toBe(resolve("infra/models/ensembles.json"));
});

test("numbers are read as numbers", () => {
  expect(readEnv({ REDIS_URL, SLOTS: "16", DRAIN_SECONDS: "0" })).toMatchObject({
    SLOTS: 16,
    DRAIN_SECONDS: 0,
  });
});

test.each([
  ["REDIS_URL", undefined, "it is not set"],
  ["REDIS_URL", "http://localhost", "Expected a redis://, rediss://"],
  ["SLOTS", "0", ">=1"],
  ["SLOTS", "four", "Expected a whole number"],
  ["LOCK_MS", "10", ">=1000"],
  ["EXECUTION_PROVIDER", "tpu", "webgpu"],
  ["LOG_LEVEL", "loud", "warn"],
])("%s=%s is refused with the variable and the reason", (name, value, reason) => {
  expect(() => readEnv({ REDIS_URL, [name]: value })).toThrow(`${name}: `);
  expect(() => readEnv({ REDIS_URL, [name]: value })).toThrow(reason);
});
