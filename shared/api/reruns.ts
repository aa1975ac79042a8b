/** Requests about jobs that exist: their request as it was sent, reruns, changes of metadata, cancellations of many. */
import * as v from "valibot";
import { generationFields, Metadata, retentionFields } from "./generation.ts";
import { Job } from "./jobs.ts";
import { JOB_FILTER } from "./job-lists.ts";
import { pageSchema } from "./lists.ts";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { field, integer, nonEmpty, number, optional, type Reply } from "./schema.ts";

const { max_tokens, temperature, top_p, seed, steering } = generationFields;
const { webhook, deadline, start_by, priority, metadata } = generationFields;

/** `POST /v1/jobs/{id}/rerun`: what the new job has instead. Everything else, the seed too, is that of the job. */
export const RerunRequest = requestObject({
  max_tokens: optional(max_tokens.pipe[0], "The most tokens to generate."),
  temperature: optional(temperature.pipe[0], "The temperature of sampling."),
  top_p: optional(top_p.pipe[0], "As in a request. 1 keeps all."),
  seed: optional(
    seed.pipe[0],
    "The seed. The default is that of the job: the tokens are the same.",
    {
      examples: [43],
    },
  ),
  steering: optional(steering.pipe[0], "The whole steering, which replaces that of the job.", {
    examples: [{ alpha: 0 }],
  }),
  webhook,
  deadline,
  start_by,
  priority,
  metadata,
  store: retentionFields.store,
});
export type RerunRequest = v.InferOutput<typeof RerunRequest>;

/** `GET /v1/jobs/{id}/request` */
export const SentRequest = v.strictObject({
  id: Job.entries.id,
  object: field(v.literal("job.request"), "The type of this object: `job.request`."),
  endpoint: field(v.string(), "The path that the request was sent to.", {
    examples: ["/v1/chat/completions"],
  }),
  body: field(v.looseObject({}), "The request's body as it was sent."),
});
export type SentRequest = Reply<typeof SentRequest>;

/** `POST /v1/jobs/{id}` and `POST /v1/chat/completions/{id}` */
export const MetadataRequest = v.strictObject({
  metadata: field(v.nullable(Metadata), "The new metadata. Null removes all pairs.", {
    examples: [{ reviewed: "yes" }],
  }),
});
export type MetadataRequest = v.InferOutput<typeof MetadataRequest>;

const time = (text: string) => optional(number(0, 1e12), text, { examples: [1_767_225_600] });

/** `POST /v1/jobs/cancel` */
export const CancellationRequest = requestObject({
  state: optional(
    v.picklist(["queued", "running"]),
    "Only jobs in this state. The default is both.",
  ),
  model: optional(nonEmpty(LIMITS.modelCharsMax), "Only jobs of this model."),
  metadata: optional(
    v.pipe(
      Metadata,
      v.check(
        (pairs) => Object.keys(pairs).length > 0,
        "Expected an object with at least one pair",
      ),
    ),
    "Only jobs that have all of these pairs, at least one.",
  ),
  created_after: time(JOB_FILTER.created_after.pipe[1].description),
  created_before: time(JOB_FILTER.created_before.pipe[1].description),
  limit: optional(integer(1, LIMITS.pageMax), "The most jobs to cancel with this request.", {
    default: LIMITS.pageMax,
  }),
  after: optional(
    nonEmpty(LIMITS.modelCharsMax),
    "The `last_id` of the request before: go on with the jobs that were submitted after this one.",
  ),
});
export type CancellationRequest = v.InferOutput<typeof CancellationRequest>;

/** One page of cancelled jobs. */
export const CancellationPage = pageSchema(
  v.strictObject({
    id: Job.entries.id,
    object: Job.entries.object,
    state: Job.entries.state,
    cancel_requested: Job.entries.cancel_requested,
  }),
);
