/** The operator's view of all tenants: queues and workers. Their use is in usage.ts. */
import * as v from "valibot";
import { listSchema } from "./lists.ts";
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
          "Estimated seconds until a job that the tenant submits now would start. Null without a live worker, while none has measured its speed, and for all but the first 10 tenants.",
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
  tokens_per_second: field(
    v.nullable(v.number()),
    "Tokens per second of one slot. Null until a job has ended.",
    { examples: [38.5] },
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
      }),
    ),
    "The models that it serves.",
  ),
});
export type OperatorWorker = Reply<typeof OperatorWorker>;

/** `GET /v1/operator/workers` */
export const OperatorWorkerList = listSchema(OperatorWorker);
