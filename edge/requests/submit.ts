/**
 * Creates the jobs of a checked request and queues them, in the same way for all protocols.
 *
 * The folder requests/ owns what several routes do with a request: submitting, idempotency, waiting, disconnects, access. It knows
 * jobs and HTTP, but no route and no protocol.
 */
import * as v from "valibot";
import { estimateTokens } from "../../shared/submission/admission.ts";
import { newId } from "../../shared/ids.ts";
import type { Quote } from "../../shared/api/queue.ts";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import type { Generation, JobRecord, NewJob } from "../../shared/jobs/record.ts";
import { withSentRequest } from "../../shared/jobs/sent-request.ts";
import { newJobRecord } from "../../shared/jobs/new-record.ts";
import type { IdempotencyClaim } from "../../shared/redis/idempotency.ts";
import {
  jobNotFound,
  submissionOf,
  type RequestContext,
  type GenerationRequest,
  type Submission,
} from "../../shared/submission/submission.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";
import { compileParts } from "../../shared/submission/output-grammars.ts";
import { CompileTime } from "./compile-time.ts";
import { CANCEL_ON_DISCONNECT, cancelsOnDisconnect, cancelOnDisconnect } from "./disconnect.ts";
import { IDEMPOTENCY, idempotencyClaim, idempotencyConflict } from "./idempotency.ts";
import { limitError, requestsFull, RATE_LIMITS, setRateLimitHeaders } from "./rate-limits.ts";
import { TRACE_CONTEXT, traceSubmission } from "./trace.ts";

const compileTime = new CompileTime();

/** The API key and the lookups of this request, in the form that shared/submission needs. */
export function requestContext(c: AppContext): RequestContext {
  const { principal, stores, webhookAllow, compileElsewhere } = c.var;
  return {
    principal,
    models: stores.fleet,
    jobs: stores.jobs,
    webhookAllow,
    compile: (rules, json) =>
      compileElsewhere
        ? compileTime.spendElsewhere(principal.tenant, () => compileElsewhere(json))
        : compileTime.spend(principal.tenant, compileParts(rules)),
  };
}

/** The contract parts of routes that call `submit`. */
export const SUBMISSION: readonly ContractPart[] = [
  IDEMPOTENCY,
  CANCEL_ON_DISCONNECT,
  TRACE_CONTEXT,
  RATE_LIMITS,
  {
    replyHeaders: {
      "x-trimtab-job-id": field(
        v.string(),
        "The id of the job that the request created, or of the first one if it created several.",
        { examples: ["job_0198c2f4e5b07a31"] },
      ),
    },
    // A repetition gets the job of the first request, which may be deleted: not_found.
    errors: ["context_length_exceeded", "not_found", "model_not_found", "deadline_unreachable"],
  },
];

/**
 * Creates and queues the jobs of a request, all or none.
 * @param deadlineSeconds until the jobs expire if the request sets no deadline
 * @returns the record of the first job; for a repetition, the record of the job that the first request created
 * @throws AppError model_not_found, permission_denied, rate_limit_exceeded, deadline_unreachable, idempotency_key_reused,
 * and the errors of validation
 */
export async function submit(
  c: AppContext,
  request: GenerationRequest,
  deadlineSeconds: number,
): Promise<JobRecord> {
  return submitAs(c, request, deadlineSeconds, async ({ requestOptions, ...firstJob }) => {
    const options = { ...request.requestOptions, ...requestOptions };
    const submission = await submissionOf(
      requestContext(c),
      { ...request, requestOptions: options },
      firstJob,
    );
    const sent = { endpoint: c.req.path, body: c.var.sentBody as Record<string, unknown> };
    // A reply may wait for hours: it must not hold the body.
    c.set("sentBody", undefined);
    return { ...submission, jobs: withSentRequest(submission.jobs, sent) };
  });
}

/** Id, time to live and options of the first job of a request. */
type FirstJob = Pick<NewJob, "id" | "deadlineInMs" | "requestOptions">;

/**
 * The same for jobs that are made in another way.
 * @param request the whole checked request
 * @param makeSubmission makes the jobs
 */
export async function submitAs(
  c: AppContext,
  request: Pick<GenerationRequest, "request">,
  deadlineSeconds: number,
  makeSubmission: (firstJob: FirstJob) => Promise<Submission>,
): Promise<JobRecord> {
  // Headers are checked before anything is looked up.
  const cancels = cancelsOnDisconnect(c);
  const idempotency = await idempotencyClaim(c, request);
  const record = await traceSubmission(c, async (traceparent) => {
    const submission = await makeSubmission({
      id: newId("job"),
      deadlineInMs: deadlineSeconds * 1000,
      requestOptions: { requestId: c.var.requestId, ...(traceparent && { traceparent }) },
    });
    // A repetition must get the job of the first request, even if the queue is long now. So only new requests are checked.
    if (!idempotency || idempotency.forceNew) {
      await requireStartInTime(c, request, submission.jobs[0].generation);
    }
    return admit(c, submission, idempotency);
  });
  if (cancels) cancelOnDisconnect(c, choiceIds(record));
  return record;
}

/** @throws AppError deadline_unreachable if the job starts in time with a probability below 10 % */
async function requireStartInTime(
  c: AppContext,
  { request }: Pick<GenerationRequest, "request">,
  generation: Generation,
): Promise<void> {
  const { start_by = null, deadline = null } = request;
  if (start_by === null && deadline === null) return;
  const { tenant } = c.var.principal;
  const { place, p10Seconds } = await c.var.stores.queueEstimate.forNewJob(
    generation,
    tenant,
    request.priority ?? 0,
  );
  const param = (start_by ?? Infinity) <= (deadline ?? Infinity) ? "start_by" : "deadline";
  const seconds = (param === "start_by" ? start_by : deadline)!;
  if (p10Seconds === null || p10Seconds <= seconds) return;
  const { position, eta } = place;
  const message = `${param} is ${seconds} s, but the job would be number ${position} in the queue and start in about ${eta?.p50} s (with 90 % probability within ${eta?.p90} s)`;
  throw new AppError("deadline_unreachable", message, { param });
}

/** The queue position and the limits that a request would have now. It creates nothing and counts towards no limit. */
export async function quote(c: AppContext, request: GenerationRequest): Promise<Quote> {
  const job = { id: newId("job"), deadlineInMs: 0 };
  const { jobs } = await submissionOf(requestContext(c), request, job);
  const { tenant, limits } = c.var.principal;
  const priority = request.request.priority ?? 0;
  const { generation } = jobs[0];
  const { place } = await c.var.stores.queueEstimate.forNewJob(generation, tenant, priority);
  const { input, maxTokens, model } = generation;
  return {
    object: "quote",
    model,
    prompt_tokens: estimateTokens(generation),
    prompt_tokens_exact: input.kind === "tokens",
    max_tokens: maxTokens,
    queue: place,
    limits,
  };
}

async function admit(
  c: AppContext,
  { jobs, admission }: Submission,
  idempotency: IdempotencyClaim | null,
): Promise<JobRecord> {
  const { stores } = c.var;
  const result = await stores
    .submit(jobs, { ...admission, idempotency })
    .catch(async (error: unknown) => {
      // The jobs may be recorded, but the client does not get their ids. Only an idempotent request could find them again.
      if (!idempotency) await Promise.allSettled(jobs.map(({ id }) => stores.deleteJob(id)));
      throw error;
    });
  if (result.status === "conflict") throw idempotencyConflict();
  if (result.status === "existing") return replay(c, result.jobId);
  if (result.status === "full") throw requestsFull(result);
  setRateLimitHeaders(c, result.rateLimits);
  if (result.status === "limited") throw limitError(c, result);
  c.header("x-trimtab-job-id", jobs[0].id);
  return newJobRecord(jobs[0], result.createdAtMs);
}

/** The job that the first request with this claim created. @throws AppError not_found */
async function replay(c: AppContext, jobId: string): Promise<JobRecord> {
  const record = await c.var.stores.jobs.record(jobId);
  if (record === null) throw jobNotFound();
  c.header("x-trimtab-job-id", jobId);
  c.header("Idempotent-Replayed", "true");
  return record;
}
