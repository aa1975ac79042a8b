/** The operator's view of all tenants: queues, running jobs, workers and models. Their use is in usage.ts. */
import * as v from "valibot";
import { Job } from "./jobs.ts";
import { listSchema } from "./lists.ts";
import { Model } from "./models.ts";
import { Eta } from "./queue.ts";
import { count, EXAMPLE_TIME, field, type Reply } from "./schema.ts";

const models = field(
  v.array(v.string()),
  "The models that its jobs need: a model and those of its pairs.",
  { examples: [["atlas-qa"]] },
);

/** The jobs that wait or run and need the same models. */
export const OperatorQueue = v.strictObject({
  object: field(v.literal("queue"), "The type of this object: `queue`."),
  models,
  running: field(count, "Jobs that run, or wait to be taken over from a worker that was lost."),
  suspects: field(
    count,
    "Jobs whose worker was lost before their first token: they may have crashed it, and an idle worker runs them.",
  ),
  paused: field(v.boolean(), "Whether one of these models is paused: none of its jobs starts."),
  workers: field(count, "Live workers that can serve all of these models now."),
  slots: field(count, "Jobs that these workers can run at the same time."),
  tenants: field(
    v.array(
      v.strictObject({
        tenant: field(v.string(), "The tenant.", { examples: ["acme"] }),
        batch: field(v.boolean(), "Whether these are jobs of the tenant's batches."),
        waiting: field(count, "Jobs that wait."),
        tokens: field(count, "The most tokens that these jobs can take; an estimate."),
        age: field(v.number(), "Seconds for which the next of them has waited.", {
          examples: [1.5],
        }),
        eta: field(
          v.nullable(Eta),
          "Estimated seconds until a job that the tenant submits now would start. Null without a live worker, while none has measured its speed, while a model is paused, and for all but the first 10 tenants.",
        ),
      }),
    ),
    "The tenants whose jobs wait, the one that is served next first: 100 at most.",
  ),
  more_tenants: field(count, "Tenants whose jobs wait and that are not in `tenants`."),
});

/** `GET /v1/operator/queues` */
export const OperatorQueueList = v.strictObject({
  ...listSchema(OperatorQueue).entries,
  more_queues: field(
    count,
    "Queues that are not in the list. With more than 10,000 queues it is a lower bound.",
  ),
});

const share = (text: string) => field(v.nullable(v.number()), text, { examples: [0.82] });
const bytes = (text: string) => field(count, text, { examples: [67_108_864] });

/** The engine of a worker. */
const EngineLoad = v.strictObject({
  tokens_per_second: field(
    v.number(),
    "Generated tokens per second of all its jobs together, in the last minute.",
    { examples: [120.5] },
  ),
  acceptance: share(
    "The share of drafted tokens that were accepted (speculative decoding), of the jobs that ended in the last minute. Null if none was drafted.",
  ),
  cached_share: share(
    "The share of the prompts' tokens that came from the prefix cache, of the jobs that ended in the last minute. Null without one.",
  ),
  waiting: field(count, "Jobs that it has taken and that wait until its KV cache has room."),
  kv_cache_bytes: bytes(
    "Bytes of the KV caches of all models and jobs. Not with them: memory of earlier caches that is kept for the next ones. Both together stay below `kv_cache_bytes_max`.",
  ),
  kv_cache_bytes_max: bytes("The limit of these bytes."),
  prefix_cache_bytes: bytes("Bytes of the prefix cache: KV caches of earlier prompts."),
  prefix_cache_bytes_max: bytes("The limit of these bytes."),
});

/** A worker that generates. */
export const OperatorWorker = v.strictObject({
  id: field(v.string(), "A random id of the worker's process."),
  object: field(v.literal("worker"), "The type of this object: `worker`."),
  version: field(v.string(), "The version of trimtab that it runs.", { examples: ["0.1.0"] }),
  started_at: field(v.number(), "When it sent its first heartbeat, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  heartbeat_at: field(
    v.number(),
    "When it sent its last heartbeat, as a Unix time in seconds. A worker sends one every 2 s and counts as lost after 10 s.",
    { examples: [EXAMPLE_TIME + 60] },
  ),
  slots: field(count, "Jobs that it can run at the same time."),
  busy: field(count, "Jobs that it runs."),
  draining: field(
    v.boolean(),
    "Whether it takes no more jobs, because it is drained. With `busy: 0` it can be stopped without a delay of any job.",
  ),
  problem: field(
    v.nullable(v.string()),
    "Why it takes no jobs: the clock of its machine is wrong. Null if it takes them.",
  ),
  tokens_per_second: field(
    v.nullable(v.number()),
    "Tokens per second of one slot, prompts included, in the last 50 jobs. Null until a job has ended.",
    { examples: [38.5] },
  ),
  engine: field(
    v.nullable(EngineLoad),
    "The last minute of its engine, and its memory. Null for a worker of an older release.",
  ),
  models: field(
    v.array(
      v.strictObject({
        id: field(v.string(), "The model.", { examples: ["atlas-qa"] }),
        fingerprint: field(v.string(), "Identifies its weights, tokenizers and templates.", {
          examples: ["9f2c4e…"],
        }),
        reproducible: field(
          v.boolean(),
          "Whether the same request with the same seed always gives the same text.",
        ),
        remote_base: field(v.boolean(), "Whether its base is on another server."),
        problem: field(
          v.nullable(v.string()),
          "Why this worker cannot serve it now: its base on another server cannot be used. Null if it can.",
        ),
      }),
    ),
    "The models that it serves.",
  ),
});
export type OperatorWorker = Reply<typeof OperatorWorker>;

/** `GET /v1/operator/workers` */
export const OperatorWorkerList = listSchema(OperatorWorker);

const { id, status, status_reason, workers, slots } = Model.entries;

/** A model as the operator sees it. */
export const OperatorModel = v.strictObject({
  id,
  object: field(v.literal("operator_model"), "The type of this object: `operator_model`."),
  status,
  status_reason,
  workers,
  slots,
  paused_at: field(
    v.nullable(v.number()),
    "Since when its jobs are kept waiting, as a Unix time in seconds. Null if it is not paused.",
    { examples: [EXAMPLE_TIME] },
  ),
});
export type OperatorModel = Reply<typeof OperatorModel>;

/** `GET /v1/operator/models` */
export const OperatorModelList = listSchema(OperatorModel);

const { state, phase, attempts, cancel_requested, created_at, started_at } = Job.entries;

/** A job that runs. No text of it is shown, nor its metadata. */
export const OperatorJob = v.strictObject({
  id: Job.entries.id,
  object: Job.entries.object,
  tenant: field(v.string(), "The tenant.", { examples: ["acme"] }),
  model: Job.entries.model,
  state,
  phase,
  worker: field(
    v.nullable(v.string()),
    "The id of the worker that runs it. Null if that worker was lost, until another one takes the job over.",
    { examples: ["worker_0198c2f4e5b07a31"] },
  ),
  attempts,
  tokens: field(count, "Tokens that it has generated, and those of its prompt that were scored.", {
    examples: [17],
  }),
  cancel_requested,
  created_at,
  started_at,
});
export type OperatorJob = Reply<typeof OperatorJob>;

/** `GET /v1/operator/jobs` */
export const OperatorJobList = v.strictObject({
  ...listSchema(OperatorJob).entries,
  more_jobs: field(count, "Running jobs that are not in the list."),
});
