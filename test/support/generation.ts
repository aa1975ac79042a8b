/** Generations and jobs for tests that are not about what is in them. */
import { newId } from "../../shared/api-key.ts";
import type { NewJob, ValidGeneration } from "../../shared/job.ts";

/** A sampled generation of at most eight tokens, with what a test changes. It stands for one that edge/ validated. */
export function generation(changes: Partial<ValidGeneration> = {}): ValidGeneration {
  return {
    model: "atlas-qa",
    input: { kind: "text", text: "what is the capital of france?" },
    maxTokens: 8,
    temperature: 1,
    topP: 1,
    topK: 0,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: [],
    stop: [],
    seed: 1,
    alpha: 1,
    ...changes,
  } as ValidGeneration;
}

/** A job that may take a minute. */
export function newJob(changes: Partial<NewJob> = {}): NewJob {
  return {
    id: newId("job"),
    tenant: "acme",
    generation: generation(),
    asked: {},
    webhookUrl: null,
    metadata: {},
    createdAtMs: Date.now(),
    deadlineMs: Date.now() + 60_000,
    ...changes,
  };
}
