/**
 * From a checked request to its jobs, whoever makes them: the edge, of a request that came by itself, or a worker, of a
 * line of a batch.
 */
import { admissionOf, type Admission } from "./admission.ts";
import type { JobRequest } from "./contract.ts";
import { AppError } from "./errors.ts";
import type { ApiKeyRecord, Asked, Input, JobRecord, ModelCard, NewJob, TextInput } from "./job.ts";
import { choiceId, jobIdOf } from "./job-names.ts";
import { LIMITS } from "./limits.ts";
import type { Keeping } from "./openai.ts";
import type { NamedPair } from "./steering.ts";
import { choicesOf, toGeneration } from "./validate.ts";
import { urlComplaint, type AddressRanges } from "./webhook-url.ts";

/** Who asks, and where is looked up what the request names. */
export interface Asker {
  readonly principal: ApiKeyRecord;
  readonly models: { model(id: string): Promise<ModelCard | null> };
  readonly jobs: { record(jobId: string): Promise<JobRecord | null> };
  /** Where webhooks may go although it is not public. */
  readonly webhookAllow: AddressRanges;
}

/** What is asked for, in whichever protocol: n jobs for each input. */
export interface Asking {
  readonly request: Omit<JobRequest, "messages" | "prompt"> & Keeping;
  readonly inputs: readonly Input[];
  readonly n: number;
  /** A text to score, where none is to be generated. */
  readonly completion?: TextInput;
  /** What decides no token, and the request's own fields do not say. */
  readonly asked?: Asked;
}

export interface Submission {
  /** First those of the first input. */
  readonly jobs: readonly [NewJob, ...NewJob[]];
  readonly admission: Omit<Admission, "repetition">;
}

/**
 * @param id of the first job
 * @param deadlineMs when the jobs expire if the request names no deadline
 * @throws AppError model_not_found, permission_denied, and what validation throws
 */
export async function submissionOf(
  asker: Asker,
  { request, inputs, completion, n, ...asking }: Asking,
  { id, createdAtMs, deadlineMs }: Pick<NewJob, "id" | "createdAtMs" | "deadlineMs">,
): Promise<Submission> {
  const { principal } = asker;
  const choices = inputs.length * n;
  if (choices > LIMITS.choicesMax) {
    const message = `n times the number of prompts must be at most ${LIMITS.choicesMax}, received ${choices}`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  const card = await requireModel(asker, request.model);
  const pairs = await namedPairs(asker, request.steering?.pairs);
  if (request.webhook) requireReachable(asker, request.webhook.url, "webhook.url");
  const bounds = { card, pairs, limits: principal.limits, choices };
  const generations = inputs.flatMap((input) =>
    choicesOf(toGeneration(request, { input, completion }, bounds), n),
  );
  const job = {
    tenant: principal.tenant,
    webhookUrl: request.webhook?.url ?? null,
    metadata: request.metadata ?? {},
    createdAtMs,
    deadlineMs: request.deadline == null ? deadlineMs : createdAtMs + request.deadline * 1000,
    ...(request.start_by != null && { startByMs: createdAtMs + request.start_by * 1000 }),
    ...(request.priority != null && { priority: request.priority }),
  };
  const asked = { ...asking.asked, ...keepingOf(request) };
  const jobs = generations.map((generation, k) => ({
    ...job,
    id: choiceId(id, k),
    generation,
    asked: k === 0 && choices > 1 ? { ...asked, choices } : asked,
  }));
  const admission = admissionOf(principal, generations, card);
  return { jobs: jobs as [NewJob, ...NewJob[]], admission };
}

function keepingOf(request: Asking["request"]): Asked {
  const { response_format: format, store, user, safety_identifier, prompt_cache_key } = request;
  return {
    ...(format && format.type !== "text" && { format }),
    ...(store != null && { store }),
    ...(user != null && { user }),
    ...(safety_identifier != null && { safetyIdentifier: safety_identifier }),
    ...(prompt_cache_key != null && { promptCacheKey: prompt_cache_key }),
  };
}

/** @throws AppError invalid_request if no webhook may be sent to the URL */
export function requireReachable(
  { webhookAllow }: Pick<Asker, "webhookAllow">,
  url: string,
  param: string,
): void {
  const complaint = urlComplaint(url, webhookAllow);
  if (complaint !== null) {
    throw new AppError("invalid_request", `${param} ${complaint}`, { param });
  }
}

type Pairs = NonNullable<JobRequest["steering"]>["pairs"];

async function namedPairs(asker: Asker, pairs: Pairs): Promise<NamedPair[] | null> {
  if (!pairs) return null;
  const named = pairs.map(async ({ model, weight }, i) => {
    const card = await requireModel(asker, model, `steering.pairs.${i}.model`);
    return { card, weight: weight ?? 1 };
  });
  return Promise.all(named);
}

/** @throws AppError model_not_found, permission_denied */
export async function requireModel(
  { principal, models }: Pick<Asker, "principal" | "models">,
  id: string,
  param = "model",
): Promise<ModelCard> {
  if (!mayUse(principal, id)) {
    const message = `This API key may use only ${principal.limits.models?.join(", ")}`;
    throw new AppError("permission_denied", message, { param });
  }
  const card = await models.model(id);
  if (card === null) {
    throw new AppError("model_not_found", "No worker serves this model; see GET /v1/models", {
      param,
    });
  }
  return card;
}

/** Whether the key's policy lets it use the ensemble. */
export function mayUse({ limits }: ApiKeyRecord, model: string): boolean {
  return limits.models?.includes(model) ?? true;
}

/** The asker's job; whether a foreign one exists must not show. @throws AppError not_found */
export async function requireJobOf(
  { principal, jobs }: Pick<Asker, "principal" | "jobs">,
  name: string,
  param?: string,
): Promise<JobRecord> {
  const record = await jobs.record(jobIdOf(name));
  if (record === null || record.tenant !== principal.tenant) throw noSuchJob(param);
  return record;
}

export function noSuchJob(param?: string): AppError {
  const message = "There is no such job; ended jobs are deleted after a while";
  return new AppError("not_found", message, param === undefined ? {} : { param });
}
