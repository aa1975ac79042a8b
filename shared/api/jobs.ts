/** Jobs: the request, and the job as its owner sees it. Field names follow the OpenAI API where it has one. */
import * as v from "valibot";
import { generationFields, Metadata, topLogprobs } from "./generation.ts";
import { inputFields, hasOneInput, ONE_INPUT_MESSAGE } from "./input.ts";
import { JobError, JobOutput, JobSteering, Phase, Timings, Usage } from "./job-parts.ts";
import { deletionSchema } from "./lists.ts";
import { QueuePlace } from "./queue.ts";
import { requestObject } from "./request-object.ts";
import { count, EXAMPLE_TIME, field, optional, type Reply } from "./schema.ts";
import { templateFields } from "./template-fields.ts";
import { chatToolFields } from "./tools.ts";
import { DeliveryAttempt } from "./webhooks.ts";

/** `POST /v1/jobs` */
export const JobRequest = v.pipe(
  requestObject({
    ...generationFields,
    ...chatToolFields,
    ...templateFields,
    ...inputFields,
    logprobs: optional(
      topLogprobs,
      "Reports the log-probability of every generated token, and this many of the likeliest tokens at each position. The default is none.",
      { examples: [2] },
    ),
  }),
  v.forward(
    v.check((request) => hasOneInput(request), ONE_INPUT_MESSAGE),
    ["messages"],
  ),
);
export type JobRequest = v.InferOutput<typeof JobRequest>;

/** The last four are terminal: the job does not change after them. */
export const JOB_STATES = [
  "queued",
  "running",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
] as const;
export const JobState = v.pipe(
  v.picklist(JOB_STATES),
  v.description(
    "A job's state: `queued`, `running`, then one of the terminal states `succeeded`, `failed`, `cancelled` and `expired`. A job in a terminal state does not change.",
  ),
);
export type JobState = (typeof JOB_STATES)[number];
export type TerminalState = Exclude<JobState, "queued" | "running">;

/** Whether a job in this state has ended. */
export function isTerminal(state: JobState): state is TerminalState {
  return state !== "queued" && state !== "running";
}

export const Job = v.strictObject({
  id: field(
    v.string(),
    "The job's id. `resp_X` and `chatcmpl-job_X` name the same job as `job_X`.",
    {
      examples: ["job_0198c2f4e5b07a31"],
    },
  ),
  object: field(v.literal("job"), "The type of this object: `job`."),
  model: field(v.string(), "The model that generates.", { examples: ["atlas-qa"] }),
  state: field(JobState, "The job's state.", { examples: ["succeeded"] }),
  phase: field(Phase, "The job's progress.", { examples: ["ended"] }),
  timings: field(Timings, "When each phase began, and how fast tokens are generated."),
  queue: field(
    v.nullable(QueuePlace),
    "The job's place in the queue. Null when it does not wait: a worker has taken it, or it has ended.",
    { examples: [null] },
  ),
  waiting_for: field(
    v.nullable(v.picklist(["worker", "weights"])),
    "What a `running` job waits for whose worker was lost. `worker`: another worker will take it over. `weights`: no live worker has the weights with which it began, as after a change of the model; if none has them for 10 minutes, the job fails with `worker_lost`. Null: a worker runs it, or it does not run.",
    { examples: [null] },
  ),
  created_at: field(v.number(), "When the job was submitted, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + 0.125],
  }),
  started_at: field(
    v.nullable(v.number()),
    "When a worker first started the job, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.25] },
  ),
  ended_at: field(
    v.nullable(v.number()),
    "When the job ended, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.8125] },
  ),
  deleted_at: field(
    v.nullable(v.number()),
    "When the ended job will be deleted, as a Unix time in seconds. Null while it has not ended.",
    { examples: [EXAMPLE_TIME + 24 * 3600] },
  ),
  priority: field(
    v.pipe(v.number(), v.integer()),
    "The job's priority among the jobs of its tenant, -10 to 10. Jobs of higher priority start first.",
    { examples: [0] },
  ),
  attempts: field(
    count,
    "How many times a worker claimed the job. Above 1, an earlier worker was lost.",
    { examples: [1] },
  ),
  cancel_requested: field(v.boolean(), "Whether a cancellation of the job was requested.", {
    examples: [false],
  }),
  steering: field(JobSteering, "How the job is steered."),
  seed: field(count, "The seed of the job's random sampling: the request's, or a random one."),
  reproducible: field(
    v.boolean(),
    "Whether the same request with this seed gives the same text, whatever else runs, and also if another worker continues the job. False if one of its models is not `reproducible`: after a takeover (`attempts` above 1) the text goes on from its last token, but it may differ from the text of an undisturbed run.",
    { examples: [true] },
  ),
  output: field(JobOutput, "The job's output so far."),
  usage: field(
    v.nullable(Usage),
    "The tokens that the job used. Null until the state is terminal.",
  ),
  error: field(v.nullable(JobError), "Why the job failed or expired. Null if it did not.", {
    examples: [null],
  }),
  metadata: field(Metadata, "The metadata of the request."),
  webhook: field(
    v.nullable(
      v.strictObject({
        url: field(v.string(), "The URL that the request names."),
        deliveries: field(
          v.array(
            v.strictObject({
              ...DeliveryAttempt.entries,
              type: field(v.string(), "The type of the message.", { examples: ["job.succeeded"] }),
            }),
          ),
          "The latest attempts to deliver each message to this URL, the oldest first, but those of `job.progress`.",
        ),
      }),
    ),
    "The webhook that the request names. Null without one.",
    { examples: [null] },
  ),
});
export type Job = Reply<typeof Job>;

/** The reply to a cancellation by a caller that may not read the job. */
export const JobCancellation = v.strictObject({
  id: Job.entries.id,
  object: Job.entries.object,
  state: Job.entries.state,
  cancel_requested: Job.entries.cancel_requested,
});

export const JobDeletion = deletionSchema("job");
