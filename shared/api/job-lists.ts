/** Lists of jobs: their filters, and what they show of each job. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { FinishReason } from "./job-parts.ts";
import { Job, JobState } from "./jobs.ts";
import { pageSchema } from "./lists.ts";
import { field, nonEmpty, type Reply } from "./schema.ts";

const { id, object, model, state, phase, timings, created_at, started_at, ended_at, deleted_at } =
  Job.entries;
const { priority, attempts, cancel_requested, usage, error, metadata } = Job.entries;

/** A job in a list. Its output, its steering and its request are left out: together they may be very large. */
export const JobSummary = v.strictObject({
  id,
  object,
  model,
  state,
  phase,
  timings,
  created_at,
  started_at,
  ended_at,
  deleted_at,
  priority,
  attempts,
  cancel_requested,
  finish_reason: field(
    v.nullable(FinishReason),
    "Why generation ended. Null while it has not, and for jobs that did not succeed.",
    { examples: ["stop"] },
  ),
  usage,
  error,
  metadata,
});
export type JobSummary = Reply<typeof JobSummary>;

/** `GET /v1/jobs` */
export const JobPage = pageSchema(JobSummary);

const time = (text: string) =>
  field(
    v.optional(
      v.pipe(
        v.string(),
        v.regex(/^\d{1,12}(\.\d{1,9})?$/, "Expected a Unix time in seconds"),
        v.transform(Number),
        v.number(),
      ),
    ),
    text,
    { examples: [1_767_225_600] },
  );

/** The query of a list of jobs, besides the page and the metadata. */
export const JOB_FILTER = {
  state: field(v.optional(JobState), "Only jobs in this state.", { examples: ["failed"] }),
  model: field(v.optional(nonEmpty(LIMITS.modelCharsMax)), "Only jobs of this model.", {
    examples: ["atlas-qa"],
  }),
  created_after: time("Only jobs that were submitted at this time (Unix, in seconds) or later."),
  created_before: time("Only jobs that were submitted before this time (Unix, in seconds)."),
};
