/** From a checked request to its jobs on the queue: what the protocols have in common. */
import type { Admission } from "../shared/admission.ts";
import { lengthOf } from "../shared/admission.ts";
import { newId } from "../shared/api-key.ts";
import type { Quote } from "../shared/outlook.ts";
import { AppError } from "../shared/errors.ts";
import { choiceIds } from "../shared/job-names.ts";
import type { AnsweredJob } from "../shared/openai-shapes.ts";
import {
  noSuchJob,
  submissionOf,
  type Asker,
  type Asking,
  type Submission,
} from "../shared/submission.ts";
import type { AppContext } from "./context.ts";
import { cancelsOnDisconnect, cancelWithClient } from "./disconnect.ts";
import { repetitionOf, reusedError } from "./idempotency.ts";
import { limitError, tellLimits } from "./rate-limits.ts";
import { traceSubmission } from "./trace.ts";

export function askerOf(c: AppContext): Asker {
  const { principal, backend, webhookAllow } = c.var;
  return { principal, models: backend, jobs: backend, webhookAllow };
}

/**
 * Resolves to the first job once all are queued; to the one that is there if the request was made before.
 * @param deadlineSeconds until the jobs expire if the request names no deadline
 * @throws AppError model_not_found, permission_denied, rate_limit_exceeded, and what validation throws
 */
export async function submit(
  c: AppContext,
  asking: Asking,
  deadlineSeconds: number,
): Promise<AnsweredJob> {
  const createdAtMs = Date.now();
  const deadlineMs = createdAtMs + deadlineSeconds * 1000;
  const job = { id: newId("job"), createdAtMs, deadlineMs };
  const { traceparent, end } = traceSubmission(c);
  const { requestId } = c.var;
  const asked = { ...asking.asked, requestId, ...(traceparent && { traceparent }) };
  const { jobs, admission } = await submissionOf(askerOf(c), { ...asking, asked }, job);
  const repetition = await repetitionOf(c, asking);
  // What may have been made before is not refused for what has come since.
  if (!repetition || repetition.isNew) await requireInTime(c, asking);
  const cancels = cancelsOnDisconnect(c);
  const submitted = await admit(c, { jobs, admission: { ...admission, repetition } });
  end(submitted.id);
  if (cancels) cancelWithClient(c, choiceIds(submitted));
  return submitted;
}

/** @throws AppError deadline_unreachable if the job can hardly start in the time that its request gives it */
async function requireInTime(c: AppContext, { request }: Asking): Promise<void> {
  const { start_by = null, deadline = null } = request;
  if (start_by === null && deadline === null) return;
  const { place, earliest } = await c.var.backend.outlook(
    c.var.principal.tenant,
    request.priority ?? 0,
  );
  const param = (start_by ?? Infinity) <= (deadline ?? Infinity) ? "start_by" : "deadline";
  const seconds = (param === "start_by" ? start_by : deadline)!;
  if (earliest === null || earliest <= seconds) return;
  const { position, eta } = place;
  const message = `${param} is ${seconds} s, and the job would be number ${position} in the queue and start in ${eta?.p50} s (90 % within ${eta?.p90} s)`;
  throw new AppError("deadline_unreachable", message, { param });
}

/** What a request would meet if it came now; nothing is created, and nothing taken of the key's limits. */
export async function quote(c: AppContext, asking: Asking): Promise<Quote> {
  const createdAtMs = Date.now();
  const job = { id: newId("job"), createdAtMs, deadlineMs: createdAtMs };
  const { jobs } = await submissionOf(askerOf(c), asking, job);
  const { tenant, limits } = c.var.principal;
  const { place } = await c.var.backend.outlook(tenant, asking.request.priority ?? 0);
  const { input, maxTokens, model } = jobs[0].generation;
  return {
    object: "quote",
    model,
    prompt_tokens: lengthOf(input),
    prompt_tokens_exact: input.kind === "tokens",
    max_tokens: maxTokens,
    queue: place,
    limits,
  };
}

async function admit(
  c: AppContext,
  { jobs, admission }: Submission & { readonly admission: Admission },
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
