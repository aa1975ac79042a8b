/**
 * The worker's configuration: every environment variable with its meaning, unit, default and range. Only this file reads
 * process.env; OpenTelemetry's SDK also reads its own OTEL_* variables, and the hub's client (engine/hub) HF_*.
 */
import { availableParallelism, cpus, totalmem } from "node:os";
import { resolve } from "node:path";
import * as v from "valibot";
import { bucketVariables } from "../shared/files/bucket.ts";
import { RESULT_TTL } from "../shared/jobs/result-ttl.ts";
import { STORED_MIB } from "../shared/jobs/stored-limit.ts";
import { redisTlsVariables, RedisUrls } from "../shared/redis/url.ts";
import { AddressList } from "../shared/webhooks/url.ts";

const MIB = 2 ** 20;
const KV_CACHE_MIB = 1_024;

/** Facts about this process from the operating system. */
interface Machine {
  /** Bytes; above `memory` if there is no limit. */
  readonly memoryLimit: number;
  readonly memory: number;
  readonly usableCores: number;
  readonly cores: number;
}

/** Defaults for a container with limits, and for a process without. */
export function limitsOf({ memoryLimit, memory, usableCores, cores }: Machine): {
  readonly threads: number;
  readonly kvCacheMib: number;
} {
  const isLimited = memoryLimit > 0 && memoryLimit < memory;
  return {
    threads: usableCores < cores ? usableCores : 0,
    kvCacheMib: isLimited ? Math.max(4, 4 * Math.floor(memoryLimit / MIB / 16)) : KV_CACHE_MIB,
  };
}

/** An optional whole number. */
const whole = (defaultValue: number, min: number, max: number) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d+$/, "Expected a whole number"),
      v.transform(Number),
      v.minValue(min),
      v.maxValue(max),
    ),
    String(defaultValue),
  );

/**
 * The work of a process.
 * - generate: runs jobs. Only this role needs models.
 * - deliver: sends webhooks.
 * - batch: turns lines of batches into jobs, and ended jobs into result lines.
 * - sweep: expires jobs, publishes ends that a crashed process did not publish, repairs the queue, counts its entries.
 */
const ROLES = ["generate", "deliver", "batch", "sweep"] as const;
export type Role = (typeof ROLES)[number];

const LIMITS = limitsOf({
  memoryLimit: process.constrainedMemory(),
  memory: totalmem(),
  usableCores: availableParallelism(),
  cores: cpus().length,
});

const Env = v.object({
  /**
   * URL of Redis: redis://, redis+sentinel:// or redis+cluster://, with TLS rediss://, rediss+sentinel:// or rediss+cluster://. Several with
   * white space between them or `?shards=n` at that of a cluster, as at the edge: jobs are taken from all of them in turn. Required.
   */
  REDIS_URL: RedisUrls,
  /** Certificates of `rediss://` connections: REDIS_TLS_* (shared/redis/url.ts). Default: none. */
  ...redisTlsVariables,
  /**
   * The work of this process, separated by commas: generate, deliver, batch, sweep. Default: all. With `generate` and another
   * role, jobs run in a child process, which is started again after a crash.
   */
  ROLES: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => text.split(",").map((role) => role.trim())),
      v.check(
        (names) => names.every((name) => ROLES.some((role) => role === name)),
        `Expected one or more of ${ROLES.join(", ")}, separated by commas`,
      ),
      v.transform((names): ReadonlySet<Role> => new Set(names as Role[])),
    ),
    ROLES.join(","),
  ),
  /** Path of the manifest, the JSON file that names the ensembles to serve. It is read again when it changes and on SIGHUP. Default: infra/models/ensembles.json. */
  TRIMTAB_MODELS: v.optional(v.string(), "infra/models/ensembles.json"),
  /**
   * Whether the worker gets repositories of the manifest that are not in the Hugging Face cache from the hub when it starts: true or
   * false. HF_ENDPOINT, HF_TOKEN and HF_HUB_CACHE count as for `npm run models -- pull`. Default: false.
   */
  PULL_MODELS: v.optional(
    v.pipe(
      v.picklist(["true", "false"]),
      v.transform((text) => text === "true"),
    ),
    "false",
  ),
  /**
   * Folder for prepared graphs of models whose own folder cannot be written: without it they are prepared at every start. Default:
   * none.
   */
  PREPARED_FOLDER: v.optional(v.string()),
  /** Jobs that this worker runs at the same time. Default 8; 1 to 1,024. */
  SLOTS: whole(8, 1, 1_024),
  /**
   * Lifetime of a job's lease, and of the lock of a webhook delivery or a batch step, in milliseconds. A worker renews them; if
   * it stops doing so, because it crashed or lost Redis, other workers take over its work after this time. Default 6,000; 1,000
   * to 600,000.
   */
  LOCK_MS: whole(6_000, 1_000, 600_000),
  /**
   * Seconds without a step of the engine while it has jobs, or without an answer of the generating process, after which the
   * process is killed and started again; other workers, or the new process, continue its jobs when their leases expire. It must
   * be longer than the longest step: the prefill of 128 tokens. Default 120; 2 to 86,400.
   */
  HANG_SECONDS: whole(120, 2, 86_400),
  /**
   * Attempts in a row whose worker may be lost before it generates a token. After that the job counts as the cause of the
   * crashes and fails with `worker_lost`. Default 5; 1 to 100.
   */
  ATTEMPTS_MAX: whole(5, 1, 100),
  /**
   * Seconds for which an ended job can be read before it is deleted. The edge needs the same value. Default 86,400 (a day); 1 to
   * 2,592,000 (30 days).
   */
  RESULT_TTL_SECONDS: whole(RESULT_TTL.default, RESULT_TTL.min, RESULT_TTL.max),
  /**
   * MiB of a tenant's jobs in Redis, ended ones until they expire: a line of a batch waits while there are more. The edge needs the
   * same value. Default 1,024; 1 to 1,048,576.
   */
  STORED_MIB: whole(STORED_MIB.default, STORED_MIB.min, STORED_MIB.max),
  /** Seconds for running jobs to finish after SIGTERM; then the worker exits and others take over. Default 25; 0 to 3,600. */
  DRAIN_SECONDS: whole(25, 0, 3_600),
  /** Device that runs the models, an execution provider of onnxruntime: cpu, cuda or webgpu. Default: cpu. */
  EXECUTION_PROVIDER: v.optional(v.picklist(["cpu", "cuda", "webgpu"]), "cpu"),
  /**
   * Threads that one operator of a model may use; 0: onnxruntime chooses, by the cores of the machine. Default: the cores that a
   * container may use, and without such a limit 0; up to 1,024.
   */
  INTRA_OP_THREADS: whole(LIMITS.threads, 0, 1_024),
  /**
   * MiB for the KV caches of all running jobs together; other jobs wait until memory is free. Default: a quarter of the memory that a
   * container may use, and without such a limit 1,024; 1 to 4,194,304.
   */
  KV_CACHE_MIB: whole(LIMITS.kvCacheMib, 1, 4_194_304),
  /**
   * MiB for KV caches of prompt prefixes, kept for later prompts. Default: a quarter of the default of KV_CACHE_MIB; 0 (keeps none) to
   * 4,194,304.
   */
  PREFIX_CACHE_MIB: whole(LIMITS.kvCacheMib / 4, 0, 4_194_304),
  /**
   * Ids of models, separated by commas, that stay known although no worker serves them for more than a day: those of fleets that scale to
   * zero. For the role sweep. Default: none.
   */
  KEEP_MODELS: v.optional(
    v.pipe(
      v.string(),
      v.transform((text): readonly string[] =>
        text
          .split(",")
          .map((id) => id.trim())
          .filter(Boolean),
      ),
    ),
    "",
  ),
  /** Lines of one batch whose jobs may be queued or running at the same time. Default 64; 1 to 10,000. */
  BATCH_LINES: whole(64, 1, 10_000),
  /** The bucket for large files: FILES_S3_* (shared/files/bucket.ts). Default: none, files stay in Redis. */
  ...bucketVariables,
  /** Port of /healthz, /readyz and /metrics. Default 9,090; 0 (no server) to 65,535. */
  HEALTH_PORT: whole(9_090, 0, 65_535),
  /** Addresses and ranges that are not public and may still receive webhooks, separated by commas. Default: none. */
  WEBHOOK_ALLOW: v.optional(AddressList, ""),
  /** URL of a collector for traces (OTLP over HTTP). Default: none; no traces are recorded. */
  OTEL_EXPORTER_OTLP_ENDPOINT: v.optional(
    v.pipe(v.string(), v.regex(/^https?:\/\/./, "Expected an http:// or https:// URL")),
  ),
  /** The commit that the image was built from, for `trimtab_build_info`. Default: none. */
  BUILD_COMMIT: v.optional(v.string(), ""),
  /** The lowest level that is logged: trace, debug, info, warn, error or silent. Default: info. */
  LOG_LEVEL: v.optional(v.picklist(["trace", "debug", "info", "warn", "error", "silent"]), "info"),
});

export type WorkerEnv = v.InferOutput<typeof Env>;

/** Parses the environment. @throws Error that names the variable and the reason */
export function readEnv(source: NodeJS.ProcessEnv): WorkerEnv {
  const parsed = v.safeParse(Env, source);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    const received = issue.received === "undefined" ? "Required, but not set" : issue.message;
    throw new Error(`${v.getDotPath(issue)}: ${received}`);
  }
  return { ...parsed.output, TRIMTAB_MODELS: resolve(parsed.output.TRIMTAB_MODELS) };
}
