/** From a checked request to a job on the queue: what the three protocols have in common. */
import { newId } from "../shared/api-key.ts";
import type { JobRequest } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { Input, ModelCard, NewJob } from "../shared/job.ts";
import type { AppContext } from "./context.ts";
import { admissionOf, limitError, tellLimits } from "./rate-limits.ts";
import type { NamedPair } from "./steering.ts";
import { toGeneration } from "./validate.ts";

export interface Submission {
  readonly request: Omit<JobRequest, "messages" | "prompt">;
  readonly input: Input;
  /** Seconds until the job expires if the request names no deadline. */
  readonly deadlineSeconds: number;
}

/**
 * Resolves once the job is queued.
 * @throws AppError model_not_found, permission_denied, rate_limit_exceeded, and what validation throws
 */
export async function submit(c: AppContext, submission: Submission): Promise<NewJob> {
  const { request, input } = submission;
  const { backend, principal } = c.var;
  const card = await requireModel(c, request.model);
  const pairs = await namedPairs(c, request.steering?.pairs);
  const generation = toGeneration(request, input, card, pairs, principal.limits);
  const createdAtMs = Date.now();
  const job: NewJob = {
    id: newId("job"),
    tenant: principal.tenant,
    generation,
    webhookUrl: request.webhook?.url ?? null,
    metadata: request.metadata ?? {},
    createdAtMs,
    deadlineMs: createdAtMs + (request.deadline ?? submission.deadlineSeconds) * 1000,
  };
  const admitted = await backend.submit(job, admissionOf(principal, generation, card));
  tellLimits(c, admitted.standing);
  if (admitted.status === "limited") throw limitError(c, admitted);
  c.header("x-trimtab-job-id", job.id);
  return job;
}

type Pairs = NonNullable<JobRequest["steering"]>["pairs"];

async function namedPairs(c: AppContext, pairs: Pairs): Promise<NamedPair[] | null> {
  if (!pairs) return null;
  const named = pairs.map(async ({ model, weight }, i) => {
    const card = await requireModel(c, model, `steering.pairs.${i}.model`);
    return { card, weight: weight ?? 1 };
  });
  return Promise.all(named);
}

/** @throws AppError model_not_found, permission_denied */
export async function requireModel(c: AppContext, id: string, param = "model"): Promise<ModelCard> {
  if (!mayUse(c, id)) {
    const message = `This API key may use only ${c.var.principal.limits.models?.join(", ")}`;
    throw new AppError("permission_denied", message, { param });
  }
  const card = await c.var.backend.model(id);
  if (card === null) {
    throw new AppError("model_not_found", "No worker serves this model; see GET /v1/models", {
      param,
    });
  }
  return card;
}

/** Whether the key's policy lets it use the ensemble. */
export function mayUse(c: AppContext, model: string): boolean {
  return c.var.principal.limits.models?.includes(model) ?? true;
}
