import { resolve } from "node:path";
import { expect, test } from "vitest";
import { limitsOf, readEnv } from "../../worker/env.ts";

const REDIS_URL = "redis://localhost:6379";

test("every variable except REDIS_URL has a default", () => {
  const env = readEnv({ REDIS_URL });
  expect(env).toMatchObject({ REDIS_URL, SLOTS: 8, LOCK_MS: 6_000, HEALTH_PORT: 9_090 });
  expect(env.TRIMTAB_MODELS).toBe(resolve("infra/models/ensembles.json"));
});

test("in a container threads and caches follow its limits", () => {
  const GIB = 2 ** 30;
  const machine = { memoryLimit: 2 ** 64, memory: 64 * GIB, usableCores: 16, cores: 16 };
  expect(limitsOf(machine)).toEqual({ threads: 0, kvCacheMib: 1_024 });
  expect(limitsOf({ ...machine, memoryLimit: 8 * GIB, usableCores: 4 })).toEqual({
    threads: 4,
    kvCacheMib: 2_048,
  });
  expect(limitsOf({ ...machine, memoryLimit: 0.5 * GIB })).toEqual({ threads: 0, kvCacheMib: 128 });
});

test("numbers are parsed", () => {
  expect(readEnv({ REDIS_URL, SLOTS: "16", DRAIN_SECONDS: "0" })).toMatchObject({
    SLOTS: 16,
    DRAIN_SECONDS: 0,
  });
});

test("a process has all roles, or those that ROLES names", () => {
  const roles = (ROLES?: string) => [...readEnv({ REDIS_URL, ROLES }).ROLES];
  expect(roles()).toEqual(["generate", "deliver", "batch", "sweep"]);
  expect(roles("sweep, deliver,sweep")).toEqual(["sweep", "deliver"]);
});

test.each([
  ["ROLES", "", "generate"],
  ["ROLES", "generate,listen", "deliver"],
  ["REDIS_URL", undefined, "Required, but not set"],
  ["REDIS_URL", "http://localhost", "Expected a redis://, rediss://"],
  ["SLOTS", "0", ">=1"],
  ["SLOTS", "four", "Expected a whole number"],
  ["LOCK_MS", "10", ">=1000"],
  ["EXECUTION_PROVIDER", "tpu", "webgpu"],
  ["LOG_LEVEL", "loud", "warn"],
])("%s=%s is rejected, naming the variable and the reason", (name, value, reason) => {
  expect(() => readEnv({ REDIS_URL, [name]: value })).toThrow(`${name}: `);
  expect(() => readEnv({ REDIS_URL, [name]: value })).toThrow(reason);
});
