/** The record of a job that was just submitted, without a read of it. */
import { laneOf } from "../queue/lanes.ts";
import { toJobRecord, type JobRecord, type NewJob } from "./record.ts";
import { jobFields } from "./stored-jobs.ts";

/** As reading it would return it. @param createdAtMs of the submission's result */
export function newJobRecord(job: NewJob, createdAtMs: number): JobRecord {
  const { deadlineInMs, startByInMs, deadlineMaxMs = Infinity } = job;
  const times = {
    createdAtMs: String(createdAtMs),
    deadlineMs: String(Math.min(createdAtMs + Math.round(deadlineInMs), deadlineMaxMs)),
    ...(startByInMs != null && { startByMs: String(createdAtMs + Math.round(startByInMs)) }),
  };
  return toJobRecord({
    ...jobFields(job),
    ...times,
    lane: laneOf(job.generation),
    seq: "1",
  });
}
