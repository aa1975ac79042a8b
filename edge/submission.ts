/** From a checked request to its jobs on the queue: what the protocols have in common. */
import { newId } from "../shared/api-key.ts";
import type { JobRequest } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { Asked, Input, ModelCard, NewJob } from "../shared/job.ts";
import { LIMITS } from "../shared/limits.ts";
import type { Keeping } from "../shared/openai.ts";
import type { AppContext } from "./context.ts";
import { choiceId } from "./job-access.ts";
import { admissionOf, limitError, tellLimits } from "./rate-limits.ts";
import type { NamedPair } from "./steering.ts";
import { choicesOf, toGeneration } from "./validate.ts";

export interface Submission {
  readonly request: Omit<JobRequest, "messages" | "prompt"> & Keeping;
  /** What only a response is asked. */
  readonly asked?: Pick<Asked, "instructed" | "previous" | "background">;
  /** Seconds until the job expires if the request names no deadline. */
  readonly deadlineSeconds: number;
}

/**
 * Resolves once the job is queued.
 * @throws AppError model_not_found, permission_denied, rate_limit_exceeded, and what validation throws
 */
export async function submit(
  c: AppContext,
  { input, ...submission }: Submission & { readonly input: Input },
): Promise<NewJob> {
  const [job] = await submitChoices(c, { ...submission, inputs: [input], n: 1 });
  return job;
}

/**
 * Resolves once n jobs for each input are queued: first those of the first input.
 * @throws AppError as `submit`
 */
export async function submitChoices(
  c: AppContext,
  submission: Submission & { readonly inputs: readonly Input[]; readonly n: number },
): Promise<[NewJob, ...NewJob[]]> {
  const { request, inputs, n } = submission;
  const { principal } = c.var;
  const choices = inputs.length * n;
  if (choices > LIMITS.choicesMax) {
    const message = `n times the number of prompts must be at most ${LIMITS.choicesMax}, received ${choices}`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  const card = await requireModel(c, request.model);
  const pairs = await namedPairs(c, request.steering?.pairs);
  const generations = inputs.flatMap((input) =>
    choicesOf(toGeneration(request, input, { card, pairs, limits: principal.limits, choices }), n),
  );
  const id = newId("job");
  const createdAtMs = Date.now();
  const job = {
    tenant: principal.tenant,
    webhookUrl: request.webhook?.url ?? null,
    metadata: request.metadata ?? {},
    createdAtMs,
    deadlineMs: createdAtMs + (request.deadline ?? submission.deadlineSeconds) * 1000,
  };
  const asked = { ...submission.asked, ...keepingOf(request) };
  const jobs = generations.map((generation, k) => ({
    ...job,
    id: choiceId(id, k),
    generation,
    asked: k === 0 && choices > 1 ? { ...asked, choices } : asked,
  }));
  await submitAll(c, jobs, card);
  c.header("x-trimtab-job-id", id);
  return jobs as [NewJob, ...NewJob[]];
}

/** All or none: whoever is refused one of them will never know the ids of the others. */
async function submitAll(c: AppContext, jobs: readonly NewJob[], card: ModelCard): Promise<void> {
  const { backend, principal } = c.var;
  const admissions = jobs.map(({ generation }) => admissionOf(principal, generation, card));
  const results = await Promise.allSettled(
    jobs.map((job, k) => backend.submit(job, admissions[k]!)),
  );
  const failed = results.find((result) => result.status === "rejected");
  const admitted = results.flatMap((result) => ("value" in result ? [result.value] : []));
  const limited = admitted.find((result) => result.status === "limited");
  if ((failed || limited) && jobs.length > 1) {
    await Promise.allSettled(jobs.map(({ id }) => backend.delete(id)));
  }
  if (failed) throw failed.reason;
  tellLimits(c, (limited ?? admitted.at(-1)!).standing);
  if (limited) throw limitError(c, limited);
}

function keepingOf({ store, user, safety_identifier, prompt_cache_key }: Submission["request"]) {
  return {
    ...(store != null && { store }),
    ...(user != null && { user }),
    ...(safety_identifier != null && { safetyIdentifier: safety_identifier }),
    ...(prompt_cache_key != null && { promptCacheKey: prompt_cache_key }),
  };
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
