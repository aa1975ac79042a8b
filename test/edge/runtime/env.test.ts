import { expect, test } from "vitest";
import { parseEnv } from "../../../edge/runtime/env.ts";

test("the error for invalid variables has their names, but not their values", () => {
  const bad = () => parseEnv({ REDIS_URL: "http://secret", REDIS_TIMEOUT_MS: "soon" });
  expect(bad).toThrow("Missing or invalid variables: REDIS_URL, REDIS_TIMEOUT_MS");
  expect(bad).not.toThrow(/secret|soon/);
  expect(() => parseEnv({})).toThrow("REDIS_URL");
});

test("numbers are parsed, and every variable except REDIS_URL has a default", () => {
  expect(parseEnv({ REDIS_URL: "rediss://host:1", REDIS_TIMEOUT_MS: "250" })).toMatchObject({
    REDIS_URL: "rediss://host:1",
    REDIS_TIMEOUT_MS: 250,
    RESULT_TTL_SECONDS: 86_400,
    JOB_DEADLINE_SECONDS: 86_400,
    STREAM_HEARTBEAT_SECONDS: 15,
    WEBHOOK_ALLOW: [],
    FILES_S3_REGION: "auto",
    FILES_S3_ACCESS_KEY_ID: "",
    FILES_S3_SECRET_ACCESS_KEY: "",
  });
});
