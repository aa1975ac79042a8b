/** Jobs as the API returns them, for tests that need some job. */
import { newId } from "../../shared/ids.ts";
import type { Job } from "../../shared/api/jobs.ts";

/** A succeeded job. @param changes fields with other values */
export function endedJob(changes: Partial<Job> = {}): Job {
  return {
    id: newId("job"),
    object: "job",
    model: "demo",
    state: "succeeded",
    phase: "ended",
    queue: null,
    waiting_for: null,
    timings: {
      loading_at: 2,
      prefill_at: 2,
      decode_at: 2.5,
      first_token_at: 2.5,
      time_to_first_token: 1.5,
      tokens_per_second: 2,
    },
    created_at: 1,
    started_at: 2,
    ended_at: 3,
    deleted_at: 4,
    priority: 0,
    attempts: 1,
    cancel_requested: false,
    steering: { alpha: 1 },
    seed: 1,
    reproducible: true,
    output: { text: "hello", finish_reason: "stop" },
    usage: null,
    error: null,
    metadata: { a: "b" },
    webhook: null,
    ...changes,
  };
}
