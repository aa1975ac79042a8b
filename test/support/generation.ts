/** Default generations and jobs, for tests that change only a few of their fields. */
import { newId } from "../../shared/ids.ts";
import type { NewJob, ValidGeneration } from "../../shared/jobs/record.ts";

/** A sampled generation of at most eight tokens, with the changes of a test, as if the edge had validated it. */
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

/** A job with a deadline in one minute. */
export function newJob(changes: Partial<NewJob> = {}): NewJob {
  return {
    id: newId("job"),
    tenant: "acme",
    generation: generation(),
    requestOptions: {},
    webhookUrl: null,
    metadata: {},
    deadlineInMs: 60_000,
    ...changes,
  };
}
