/** The events of a job: the entries of its event log, and the data of its server-sent events. */
import * as v from "valibot";
import { FinishReason, JobError, Usage } from "./job-parts.ts";
import { count, field, type Reply } from "./schema.ts";
import { candidateDetails, maskedShares, tokenDetails } from "./token-details.ts";

const seq = {
  seq: field(
    v.pipe(v.number(), v.integer(), v.minValue(1)),
    "The event's number, which is also the SSE event id. It counts from 1 without gaps.",
  ),
};

/** How a job ended: the data of its terminal event. */
const outcome = {
  finish_reason: field(
    v.nullable(FinishReason),
    "Why generation ended. Null if the job did not succeed.",
  ),
  stop_sequence: field(
    v.exactOptional(v.string()),
    "The stop string that ended the output. Absent if none did.",
  ),
  usage: field(Usage, "The tokens that the job used."),
  error: field(v.nullable(JobError), "Why the job failed or expired. Null if it did not."),
};
export type Outcome = Reply<v.StrictObjectSchema<typeof outcome, undefined>>;

/** The last event of every job. */
export const EndEvent = v.strictObject({
  ...seq,
  type: field(
    v.picklist(["succeeded", "failed", "cancelled", "expired"]),
    "The job ended in this state. It is the last event.",
  ),
  ...outcome,
});
export type EndEvent = Reply<typeof EndEvent>;

/** Events of a job, in order. */
export const JobEvent = v.variant("type", [
  v.strictObject({
    ...seq,
    type: field(v.literal("queued"), "The job is in the queue."),
  }),
  v.strictObject({
    ...seq,
    type: field(v.literal("started"), "A worker starts an attempt at the job."),
    attempt: field(
      v.pipe(v.number(), v.integer(), v.minValue(1)),
      "The number of the attempt. Above 1, the worker before was lost, and a new worker continues after its last token. If the job is `reproducible`, it generates the same text as the worker before would have.",
    ),
  }),
  v.strictObject({
    ...seq,
    type: field(v.literal("tokens"), "The job has new tokens."),
    ids: field(v.array(count), "The ids of the new tokens.", { examples: [[6342, 13]] }),
    text: field(
      v.string(),
      "The text that these tokens complete. It is empty while a character is incomplete, or while the text may be the beginning of a stop string.",
      { examples: [" Paris."] },
    ),
    ...tokenDetails,
    ...candidateDetails,
    ...maskedShares,
  }),
  EndEvent,
]);
export type JobEvent = Reply<typeof JobEvent>;

/** Whether the event is the last one of its job. */
export function isEnd(event: JobEvent): event is EndEvent {
  return "finish_reason" in event;
}
