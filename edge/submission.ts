/** From a checked request to its jobs on the queue: what the protocols have in common. */
import type { Admission } from "../shared/admission.ts";
import { newId } from "../shared/api-key.ts";
import type { JobRequest } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { Asked, Input, ModelCard, NewJob, TextInput } from "../shared/job.ts";
import { LIMITS } from "../shared/limits.ts";
import type { Keeping } from "../shared/openai.ts";
import { urlComplaint } from "../shared/webhook-url.ts";
import type { AppContext } from "./context.ts";
import { cancelsOnDisconnect, cancelWithClient } from "./disconnect.ts";
import { repetitionOf, reusedError } from "./idempotency.ts";
import { choiceId, choiceIds, noSuchJob } from "./job-access.ts";
import type { AnsweredJob } from "./openai-shapes.ts";
import { admissionOf, limitError, tellLimits } from "./rate-limits.ts";
import type { NamedPair } from "./steering.ts";
import { traceparentOf } from "./trace.ts";
import { choicesOf, toGeneration } from "./validate.ts";

export interface Submission {
  readonly request: Omit<JobRequest, "messages" | "prompt"> & Keeping;
  /** A text to score, where none is to be generated. */
  readonly completion?: TextInput;
  /** What only a response is asked. */
  readonly asked?: Pick<Asked, "instructed" | "previous" | "background">;
  /** Seconds until the job expires if the request names no deadline. */
  readonly deadlineSeconds: number;
}

/**
 * Resolves once the job is queued; to the job that is there if the request was made before.
 * @throws AppError model_not_found, permission_denied, rate_limit_exceeded, and what validation throws
 */
export function submit(
  c: AppContext,
  { input, ...submission }: Submission & { readonly input: Input },
): Promise<AnsweredJob> {
  return submitChoices(c, { ...submission, inputs: [input], n: 1 });
}

/**
 * Resolves to the first job once n jobs for each input are queued: first those of the first input.
 * @throws AppError as `submit`
 */
export async function submitChoices(
  c: AppContext,
  submission: Submission & { readonly inputs: readonly Input[]; readonly n: number },
): Promise<AnsweredJob> {
  const { deadlineSeconds, ...asking } = submission;
  const { request, inputs, completion, n } = asking;
  const { principal } = c.var;
  const choices = inputs.length * n;
  if (choices > LIMITS.choicesMax) {
    const message = `n times the number of prompts must be at most ${LIMITS.choicesMax}, received ${choices}`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  const card = await requireModel(c, request.model);
  const pairs = await namedPairs(c, request.steering?.pairs);
  if (request.webhook) requireReachable(c, request.webhook.url, "webhook.url");
  const bounds = { card, pairs, limits: principal.limits, choices };
  const generations = inputs.flatMap((input) =>
    choicesOf(toGeneration(request, { input, completion }, bounds), n),
  );
  const id = newId("job");
  const createdAtMs = Date.now();
  const job = {
    tenant: principal.tenant,
    webhookUrl: request.webhook?.url ?? null,
    metadata: request.metadata ?? {},
    createdAtMs,
    deadlineMs: createdAtMs + (request.deadline ?? deadlineSeconds) * 1000,
  };
  const traceparent = traceparentOf(c);
  const asked = { ...submission.asked, ...keepingOf(request), ...(traceparent && { traceparent }) };
  const jobs = generations.map((generation, k) => ({
    ...job,
    id: choiceId(id, k),
    generation,
    asked: k === 0 && choices > 1 ? { ...asked, choices } : asked,
  }));
  const repetition = await repetitionOf(c, asking);
  const admission = { ...admissionOf(principal, generations, card), repetition };
  const cancels = cancelsOnDisconnect(c);
  const submitted = await admit(c, jobs as [NewJob, ...NewJob[]], admission);
  if (cancels) cancelWithClient(c, choiceIds(submitted));
  return submitted;
}

async function admit(
  c: AppContext,
  jobs: readonly [NewJob, ...NewJob[]],
  admission: Admission,
): Promise<AnsweredJob> {
  const { backend } = c.var;
  const admitted = await backend.submit(jobs, admission).catch(async (error: unknown) => {
    // Nobody will know the ids of jobs that were recorded, unless by sending the request again.
    if (!admission.repetition) await Promise.allSettled(jobs.map(({ id }) => backend.delete(id)));
    throw error;
  });
  if (admitted.status === "conflict") throw reusedError();
  if (admitted.status === "existing") return replay(c, admitted.jobId);
  tellLimits(c, admitted.standing);
  if (admitted.status === "limited") throw limitError(c, admitted);
  c.header("x-trimtab-job-id", jobs[0].id);
  return jobs[0];
}

/** The job that the same request made before. @throws AppError not_found */
async function replay(c: AppContext, jobId: string): Promise<AnsweredJob> {
  const record = await c.var.backend.record(jobId);
  if (record === null) throw noSuchJob();
  c.header("x-trimtab-job-id", jobId);
  c.header("Idempotent-Replayed", "true");
  return record;
}

function keepingOf({ store, user, safety_identifier, prompt_cache_key }: Submission["request"]) {
  return {
    ...(store != null && { store }),
    ...(user != null && { user }),
    ...(safety_identifier != null && { safetyIdentifier: safety_identifier }),
    ...(prompt_cache_key != null && { promptCacheKey: prompt_cache_key }),
  };
}

/** @throws AppError invalid_request if no webhook may be sent to the URL */
export function requireReachable(c: AppContext, url: string, param: string): void {
  const complaint = urlComplaint(url, c.var.webhookAllow);
  if (complaint !== null) {
    throw new AppError("invalid_request", `${param} ${complaint}`, { param });
  }
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
