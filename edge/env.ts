/** The Worker's bindings: every variable, its default and its bounds. A bad value stops every request with one clear error. */
import { parseKeyPairsIntoRecord } from "@opentelemetry/core";
import * as v from "valibot";
import { bucketVariables } from "../shared/bucket.ts";
import { RedisUrl } from "../shared/redis-url.ts";
import { AddressList } from "../shared/webhook-url.ts";
import type { Otlp } from "./trace.ts";

const DAY_SECONDS = 24 * 3600;

/** A number that may arrive as text (`--var`, secrets) or as a number (`[vars]`). */
const number = (fallback: number, min: number, max: number) =>
  v.optional(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.regex(/^\d+(\.\d+)?$/), v.transform(Number))]),
      v.minValue(min),
      v.maxValue(max),
    ),
    fallback,
  );

const Env = v.object({
  /** Where Redis is: `redis://[user:password@]host:port[/db]`, `rediss://` for TLS, or Sentinels. Required; a secret. */
  REDIS_URL: RedisUrl,
  /** Longest wait for the connection, and for each reply, of Redis. */
  REDIS_TIMEOUT_MS: number(5_000, 50, 60_000),
  /** How long an ended job, its output and its events can be read. Workers must be given the same value. */
  RESULT_TTL_SECONDS: number(DAY_SECONDS, 1, 30 * DAY_SECONDS),
  /** Time within which a job must end if its request names no deadline. */
  JOB_DEADLINE_SECONDS: number(DAY_SECONDS, 1, 7 * DAY_SECONDS),
  /** A stream in which nothing happens says so this often, so that proxies keep it open. */
  STREAM_HEARTBEAT_SECONDS: number(15, 0.05, 300),
  /** Connections to Redis that all streams share, each in a Durable Object; 0 gives each stream its own. */
  STREAM_CONNECTIONS: number(16, 0, 1_024),
  /** Addresses and ranges that webhooks may go to although they are not public. Workers must be given the same value. */
  WEBHOOK_ALLOW: v.optional(AddressList, ""),
  /** Where the spans of submissions go, as OTLP over HTTP, and the headers for it (`name=value,…`; a secret). */
  OTEL_EXPORTER_OTLP_ENDPOINT: v.optional(v.pipe(v.string(), v.regex(/^https?:\/\/./))),
  OTEL_EXPORTER_OTLP_HEADERS: v.optional(v.string()),
  /** Where files go that are too long for Redis. Workers must be given the same values. */
  ...bucketVariables,
});
export type Env = v.InferOutput<typeof Env>;

export function otlpOf(env: Env): Otlp | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_HEADERS: headers } = env;
  if (endpoint === undefined) return undefined;
  const url = `${endpoint.replace(/\/$/, "")}/v1/traces`;
  return { url, headers: parseKeyPairsIntoRecord(headers) };
}

/** @throws Error naming each variable that is missing or bad, never its value: a URL may hold a password. */
export function parseEnv(bindings: unknown): Env {
  const result = v.safeParse(Env, bindings);
  if (result.success) return result.output;
  const names = result.issues.map((issue) => v.getDotPath(issue) ?? "bindings");
  throw new Error(
    `Missing or invalid variables: ${[...new Set(names)].join(", ")} (see edge/env.ts)`,
  );
}
