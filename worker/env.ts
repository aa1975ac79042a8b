/** The worker's configuration: the only reader of process.env. README.md lists every variable. */
import { resolve } from "node:path";
import * as v from "valibot";
import { bucketVariables } from "../shared/bucket.ts";
import { RedisUrl } from "../shared/redis-url.ts";
import { AddressList } from "../shared/webhook-url.ts";

const whole = (fallback: number, min: number, max: number) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d+$/, "Expected a whole number"),
      v.transform(Number),
      v.minValue(min),
      v.maxValue(max),
    ),
    String(fallback),
  );

const Env = v.object({
  REDIS_URL: RedisUrl,
  /** Manifest of the ensembles to serve. */
  TRIMTAB_MODELS: v.optional(v.string(), "infra/models/ensembles.json"),
  /** Generations in progress at once. */
  SLOTS: whole(8, 1, 1_024),
  /** Milliseconds after which a silent worker's jobs are taken over. */
  LOCK_MS: whole(6_000, 1_000, 600_000),
  /** How often a job is taken up at most, before it counts as the cause of the crashes. */
  ATTEMPTS_MAX: whole(5, 1, 100),
  /** Seconds for which an ended job can be read. */
  RESULT_TTL_SECONDS: whole(86_400, 60, 31_536_000),
  /** Seconds that running jobs get to finish after SIGTERM. */
  DRAIN_SECONDS: whole(25, 0, 3_600),
  /** What models run on. */
  EXECUTION_PROVIDER: v.optional(v.picklist(["cpu", "cuda", "webgpu"]), "cpu"),
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  INTRA_OP_THREADS: whole(0, 0, 1_024),
  /** MiB of all KV caches together; jobs wait while it is used up. */
  KV_CACHE_MIB: whole(1_024, 1, 4_194_304),
  /** MiB of prompt prefixes that are kept beside them; 0 keeps none. */
  PREFIX_CACHE_MIB: whole(256, 0, 4_194_304),
  /** Lines of one batch that are in the generation queue at once. */
  BATCH_LINES: whole(64, 1, 10_000),
  ...bucketVariables,
  /** Port of /healthz and /readyz; 0 turns them off. */
  HEALTH_PORT: whole(9_090, 0, 65_535),
  /** Addresses and ranges that webhooks may go to although they are not public. */
  WEBHOOK_ALLOW: v.optional(AddressList, ""),
  /** Where traces go, as OTLP over HTTP; none is made without it. The SDK reads it, and its other variables, by itself. */
  OTEL_EXPORTER_OTLP_ENDPOINT: v.optional(
    v.pipe(v.string(), v.regex(/^https?:\/\/./, "Expected an http:// or https:// URL")),
  ),
  LOG_LEVEL: v.optional(v.picklist(["trace", "debug", "info", "warn", "error", "silent"]), "info"),
});

export type WorkerEnv = v.InferOutput<typeof Env>;

/** Parses the environment; throws with the variable and the reason. */
export function readEnv(source: NodeJS.ProcessEnv): WorkerEnv {
  const parsed = v.safeParse(Env, source);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    const received = issue.received === "undefined" ? "it is not set" : issue.message;
    throw new Error(`${v.getDotPath(issue)}: ${received}`);
  }
  return { ...parsed.output, TRIMTAB_MODELS: resolve(parsed.output.TRIMTAB_MODELS) };
}
