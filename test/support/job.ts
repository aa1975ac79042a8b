/** Jobs as clients see them, for tests that are not about what is in them. */
import { newId } from "../../shared/api-key.ts";
import type { Job } from "../../shared/contract.ts";

/** A job that succeeded, with what a test changes. */
export function endedJob(changes: Partial<Job> = {}): Job {
  return {
    id: newId("job"),
    object: "job",
    model: "demo",
    state: "succeeded",
    created_at: 1,
    started_at: 2,
    ended_at: 3,
    deleted_at: 4,
    attempts: 1,
    cancel_requested: false,
    steering: { alpha: 1 },
    seed: 1,
    output: { text: "hello", finish_reason: "stop" },
    usage: null,
    error: null,
    metadata: { a: "b" },
    webhook: null,
    ...changes,
  };
}
