/**
 * Runs the generation of a job again as a new job. Without changes it is the same generation with the same seed, so a reproducible
 * model gives the same tokens; what the request left to defaults stays as it was resolved then.
 */
import type { JobRequest } from "../api/jobs.ts";
import type { RerunRequest } from "../api/reruns.ts";
import type { Generation, JobRecord, NewJob, ValidGeneration } from "../jobs/record.ts";
import { withSentRequest } from "../jobs/sent-request.ts";
import { jobSteering } from "./job-reply.ts";
import { requireRoom } from "../submission/job-room.ts";
import { admissionOf } from "../submission/admission.ts";
import type { GenerationSteering } from "../submission/steering.ts";
import {
  requireAllowedUrl,
  requireModel,
  resolvePairs,
  type RequestContext,
  type Submission,
} from "../submission/submission.ts";
import { toGenerations } from "../submission/validate.ts";

/** The members of a generation that come from the request's `steering`. */
const STEERING: Readonly<Record<keyof GenerationSteering | "trace", true>> = {
  alpha: true,
  schedule: true,
  pairs: true,
  pairConflicts: true,
  guards: true,
  gate: true,
  baseErrorMax: true,
  baseErrorAction: true,
  trace: true,
};

/**
 * @param job the job that is run again
 * @param changes fields that the new job has instead
 * @param newJob id of the new job, when it expires without a deadline, and the options of this request
 * @throws AppError model_not_found, permission_denied, invalid_request, context_length_exceeded
 */
export async function rerunSubmission(
  context: RequestContext,
  job: JobRecord,
  changes: RerunRequest,
  newJob: Pick<NewJob, "id" | "deadlineInMs" | "requestOptions">,
): Promise<Submission> {
  const { generation, card, reproducible } = await rerunGeneration(context, job, changes);
  const { webhook, deadline, start_by, store } = changes;
  if (webhook) requireAllowedUrl(context, webhook.url, "webhook.url");
  const { choices: _, batch: __, requestId: ___, traceparent: ____, ...kept } = job.requestOptions;
  const { webhookEvents = null, ...others } = kept;
  const events = webhook ? webhook.events : webhookEvents;
  const options = {
    ...others,
    ...(events && { webhookEvents: events }),
    ...newJob.requestOptions,
    ...(store != null && { store }),
  };
  const created: NewJob = {
    id: newJob.id,
    tenant: context.principal.tenant,
    generation,
    requestOptions: { ...options, reproducible },
    webhookUrl: webhook?.url ?? (job.webhookUrl || null),
    metadata: changes.metadata ?? job.metadata,
    deadlineInMs: deadline == null ? newJob.deadlineInMs : deadline * 1000,
    ...(start_by != null && { startByInMs: start_by * 1000 }),
    priority: changes.priority ?? job.priority,
  };
  const sent = { endpoint: `/v1/jobs/${job.id}/rerun`, body: changes };
  return {
    jobs: withSentRequest([created], sent),
    admission: admissionOf(context.principal, [generation], card),
  };
}

/** The generation with these changes, within the limits of the API key, and whether all its models are reproducible. */
async function rerunGeneration(
  context: RequestContext,
  { generation: before }: JobRecord,
  { max_tokens, temperature, top_p, seed, steering }: RerunRequest,
) {
  const changes = withoutNull({ max_tokens, temperature, top_p, seed, steering });
  const request = { ...requestOf(before), ...changes };
  const card = await requireModel(context, request.model);
  const pairs = await resolvePairs(context, request.steering?.pairs);
  const { completion, input, promptLogprobs, candidates, grammar = null, tools = null } = before;
  const { limits } = context.principal;
  const bounds = { card, pairs, limits, choices: 1, grammar, tools };
  const scored = {
    ...(completion && { completion }),
    ...(promptLogprobs && { promptLogprobs }),
    ...(candidates && { candidates }),
  };
  const [fresh] = toGenerations(request, [{ input, ...scored }], bounds);
  const generation = { ...withoutSteering(before), ...fresh } as ValidGeneration;
  await requireRoom(context.models, card, [generation], false);
  const cards = [card, ...(pairs ?? []).map((pair) => pair.card)];
  return {
    generation,
    card,
    reproducible: cards.every((each) => each.reproducible),
  };
}

/** The request fields that give this generation. */
function requestOf(generation: Generation): Omit<JobRequest, "messages" | "prompt"> {
  const { alpha, schedule, ...steering } = jobSteering(generation);
  return {
    model: generation.model,
    max_tokens: generation.maxTokens,
    temperature: generation.temperature,
    top_p: generation.topP,
    top_k: generation.topK,
    min_p: generation.minP,
    repetition_penalty: generation.repetitionPenalty,
    presence_penalty: generation.presencePenalty,
    frequency_penalty: generation.frequencyPenalty,
    logit_bias: Object.fromEntries(generation.logitBias),
    stop: [...generation.stop],
    seed: generation.seed,
    logprobs: generation.logprobs,
    steering: {
      ...(schedule ? { schedule: schedule.map(([at, value]) => [at, value]) } : { alpha }),
      ...steering,
      pairs: steering.pairs?.map((pair) => ({ ...pair })),
    },
  };
}

/** Null asks for what the job had. */
function withoutNull<T extends object>(fields: T): Partial<T> {
  const set = Object.entries(fields).filter(([, value]) => value != null);
  return Object.fromEntries(set) as Partial<T>;
}

function withoutSteering(generation: Generation): Partial<Generation> {
  return Object.fromEntries(
    Object.entries(generation).filter(([name]) => !Object.hasOwn(STEERING, name)),
  );
}
