/**
 * The edge's environment variables with their units, defaults and ranges. With an invalid value a self-hosted edge ends at its
 * start; on Cloudflare every request fails. In both cases the log names the variable.
 */
import { parseKeyPairsIntoRecord } from "@opentelemetry/core";
import * as v from "valibot";
import { bucketVariables } from "../../shared/files/bucket.ts";
import { RESULT_TTL } from "../../shared/jobs/result-ttl.ts";
import { STORED_MIB } from "../../shared/jobs/stored-limit.ts";
import { redisTlsVariables, RedisUrls } from "../../shared/redis/url.ts";
import { AddressList } from "../../shared/webhooks/url.ts";

const DAY_SECONDS = 24 * 3600;

/** A number, given as text (environment, secrets) or as a number (`[vars]` of wrangler.toml). */
export const number = (fallback: number, min: number, max: number) =>
  v.optional(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.regex(/^\d+(\.\d+)?$/), v.transform(Number))]),
      v.minValue(min),
      v.maxValue(max),
    ),
    fallback,
  );

const Env = v.object({
  /**
   * URL of Redis: `redis://[user:password@]host:port[/db]`, `rediss://` for TLS, Sentinels or a cluster (shared/redis/url.ts). Several with
   * white space between them, or a cluster with `?shards=n`: the tenants are divided among these (shared/redis/shards.ts). Required, without default; a secret.
   */
  REDIS_URL: RedisUrls,
  /** Certificates of `rediss://` connections: REDIS_TLS_* (shared/redis/url.ts). Not on Cloudflare. Default: none. */
  ...redisTlsVariables,
  /**
   * Origin under which clients reach the API, such as https://api.example.com: links to the API in replies begin with it. Without
   * it they begin with the request's Host, which a client may choose; a Host that is not valid is refused with 400.
   * Default: none.
   */
  PUBLIC_URL: v.optional(v.pipe(v.string(), v.regex(/^https?:\/\/[^/?#@]+\/?$/), v.url())),
  /** Milliseconds to wait for a connection to Redis, and for each of its replies, at most. Default 5,000; 50 to 60,000. */
  REDIS_TIMEOUT_MS: number(5_000, 50, 60_000),
  /**
   * Seconds for which an ended job, its output and its events can be read. Workers need the same value. Default 86,400 (a day); 1
   * to 2,592,000 (30 days).
   */
  RESULT_TTL_SECONDS: number(RESULT_TTL.default, RESULT_TTL.min, RESULT_TTL.max),
  /**
   * MiB of a tenant's jobs in Redis: its requests that wait or run, and the requests, outputs and events of its ended jobs until they
   * expire. More get 429. Workers need the same value. Default 1,024; 1 to 1,048,576.
   */
  STORED_MIB: number(STORED_MIB.default, STORED_MIB.min, STORED_MIB.max),
  /** Seconds within which a job must end if its request sets no deadline. Default 86,400 (a day); 1 to 604,800 (7 days). */
  JOB_DEADLINE_SECONDS: number(DAY_SECONDS, 1, 7 * DAY_SECONDS),
  /** Seconds between heartbeats in a stream without events. They keep proxies from closing it. Default 15; 0.05 to 300. */
  STREAM_HEARTBEAT_SECONDS: number(15, 0.05, 300),
  /**
   * On Cloudflare: connections to Redis that all streams share, each in a Durable Object; 0 gives each stream its own. A
   * self-hosted edge needs one for all streams and does not read this. Default 16; 0 to 1,024.
   */
  STREAM_CONNECTIONS: number(16, 0, 1_024),
  /**
   * On Cloudflare: the region of these Durable Objects, near Redis. It counts when one is used for the first time. Default: near the
   * first request.
   */
  STREAM_LOCATION: v.optional(
    v.picklist(["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"]),
  ),
  /**
   * Addresses and ranges that are not public and may still receive webhooks, separated by commas. Workers need the same value.
   * Default: none.
   */
  WEBHOOK_ALLOW: v.optional(AddressList, ""),
  /** URL of a collector for traces (OTLP over HTTP). Default: none; no spans are sent. */
  OTEL_EXPORTER_OTLP_ENDPOINT: v.optional(v.pipe(v.string(), v.regex(/^https?:\/\/./))),
  /** Headers of the requests to the collector: `name=value,…`. Default: none; a secret. */
  OTEL_EXPORTER_OTLP_HEADERS: v.optional(v.string()),
  /** The bucket for large files: FILES_S3_* (shared/files/bucket.ts). Workers need the same values. Default: none. */
  ...bucketVariables,
});
export type Env = v.InferOutput<typeof Env>;

/** Where spans are sent. */
export interface Otlp {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Where spans are sent; undefined if no endpoint is configured. */
export function otlpOf(env: Env): Otlp | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_HEADERS: headers } = env;
  if (endpoint === undefined) return undefined;
  const url = `${endpoint.replace(/\/$/, "")}/v1/traces`;
  return { url, headers: parseKeyPairsIntoRecord(headers) };
}

/** @throws Error as parseVariables does */
export function parseEnv(bindings: unknown): Env {
  return parseVariables(Env, bindings, "edge/runtime/env.ts");
}

/**
 * @param source the file that describes the variables
 * @throws Error that names each variable that is missing or invalid, but not its value: a URL may hold a password
 */
export function parseVariables<T extends v.GenericSchema>(
  schema: T,
  variables: unknown,
  source: string,
): v.InferOutput<T> {
  const result = v.safeParse(schema, variables);
  if (result.success) return result.output;
  const nameOf = (issue: (typeof result.issues)[0]) => v.getDotPath(issue) ?? "bindings";
  const names = [...new Set(result.issues.map(nameOf))].join(", ");
  // The messages of checks are this repository's own. Others quote the value.
  const reasons = result.issues.flatMap((issue) =>
    issue.type === "check" ? `. ${nameOf(issue)}: ${issue.message}` : [],
  );
  throw new Error(`Missing or invalid variables: ${names} (see ${source})${reasons.join("")}`);
}
