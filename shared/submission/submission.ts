/** From a parsed request to its jobs. The edge submits the jobs of a request, and a worker those of a line of a batch. */
import { type Admission } from "../jobs/admission.ts";
import { admissionOf } from "./admission.ts";
import type { JobRequest } from "../api/jobs.ts";
import { AppError } from "../api/errors.ts";
import type {
  Generation,
  RequestOptions,
  Input,
  JobRecord,
  NewJob,
  TextInput,
} from "../jobs/record.ts";
import type { ModelCard } from "../workers/model-card.ts";
import type { ApiKeyRecord } from "../keys/record.ts";
import { choiceId, toJobId } from "../jobs/ids.ts";
import type { JobStore } from "../jobs/store.ts";
import { LIMITS } from "../api/limits.ts";
import type { RetentionFields } from "../api/generation.ts";
import { requireRoom, type WorkerLookup } from "./job-room.ts";
import type { ResolvedPair } from "./steering.ts";
import { jobParts } from "./job-parts.ts";
import { compileHere, OutputGrammars, type CompileRules } from "./output-grammars.ts";
import { toolSettings } from "./tools.ts";
import { withSuccessiveSeeds, toGenerations } from "./validate.ts";
import { urlProblem, type AddressRanges } from "../webhooks/url.ts";

const outputGrammars = new OutputGrammars();

/** The API key of a request, and where the models and jobs that it names are read. */
export interface RequestContext {
  readonly principal: ApiKeyRecord;
  readonly models: WorkerLookup & { model(id: string): Promise<ModelCard | null> };
  readonly jobs: Pick<JobStore, "record" | "output">;
  /** Addresses that webhooks may be sent to although they are not public. */
  readonly webhookAllow: AddressRanges;
  /** Compiles a response format and tools; absent: on this thread, without a limit of time. */
  readonly compile?: CompileRules;
}

/** A request of any protocol: n jobs for each input. */
export interface GenerationRequest {
  readonly request: Omit<JobRequest, "messages" | "prompt"> & RetentionFields;
  readonly inputs: readonly Input[];
  readonly n: number;
  /** Whether an output without `max_tokens` may fill the context, as chats do; otherwise it has a default limit. */
  readonly fillsContext?: boolean;
  /** Texts to score, one for each input; nothing is generated then. */
  readonly completions?: readonly TextInput[];
  /** Tokens whose log-probabilities a score reports at each position; absent for none. */
  readonly candidates?: NonNullable<Generation["candidates"]>;
  /** Log-probabilities of the prompt, with this many of the likeliest tokens at each position; absent for none. */
  readonly promptLogprobs?: number;
  /** Options that are not fields of `request`. */
  readonly requestOptions?: RequestOptions;
  /** Gives an error the names that fields have in the client's request; absent: they are those of `request`. */
  readonly renameError?: (error: unknown) => unknown;
}

export interface Submission {
  /** In the order of the inputs: n jobs for the first input, then for the next. */
  readonly jobs: readonly [NewJob, ...NewJob[]];
  readonly admission: Omit<Admission, "idempotency">;
}

/**
 * Validates a request and creates its jobs and their admission; it submits nothing.
 * @param firstJob id of the first job, and after how many milliseconds the jobs expire if the request has no deadline
 * @throws AppError model_not_found, permission_denied, invalid_request, context_length_exceeded
 */
export async function submissionOf(
  context: RequestContext,
  generationRequest: GenerationRequest,
  firstJob: Pick<NewJob, "id" | "deadlineInMs">,
): Promise<Submission> {
  try {
    return await makeSubmission(context, generationRequest, firstJob);
  } catch (error) {
    throw generationRequest.renameError?.(error) ?? error;
  }
}

async function makeSubmission(
  context: RequestContext,
  generationRequest: GenerationRequest,
  firstJob: Pick<NewJob, "id" | "deadlineInMs">,
): Promise<Submission> {
  const { principal } = context;
  const { request, inputs, n, requestOptions, fillsContext } = generationRequest;
  const { id, deadlineInMs } = firstJob;
  const choices = inputs.length * n;
  checkChoices(request, choices);
  const card = await requireModel(context, request.model);
  const pairs = await resolvePairs(context, request.steering?.pairs);
  if (request.webhook) requireAllowedUrl(context, request.webhook.url, "webhook.url");
  const tools = toolSettings(request, inputs, card);
  // Once for all prompts, because it is the most expensive check.
  const { compile = compileHere } = context;
  const format = request.response_format;
  const grammar =
    format || tools ? await outputGrammars.get(principal.tenant, { format, tools }, compile) : null;
  const bounds = { card, pairs, limits: principal.limits, choices, grammar, tools, fillsContext };
  const generations = toGenerations(request, jobParts(generationRequest), bounds).flatMap(
    (generation) => withSuccessiveSeeds(generation, n),
  );
  const fields = {
    tenant: principal.tenant,
    webhookUrl: request.webhook?.url ?? null,
    metadata: request.metadata ?? {},
    deadlineInMs: request.deadline == null ? deadlineInMs : request.deadline * 1000,
    ...(request.start_by != null && { startByInMs: request.start_by * 1000 }),
    ...(request.priority != null && { priority: request.priority }),
  };
  const cards = [card, ...(pairs ?? []).map((pair) => pair.card)];
  const reproducible = cards.every((each) => each.reproducible);
  const options = {
    ...requestOptions,
    ...storedOptions(request),
    ...(reproducible && { reproducible }),
  };
  const jobs = generations.map((generation, k) => ({
    ...fields,
    id: choiceId(id, k),
    generation,
    requestOptions: k === 0 && choices > 1 ? { ...options, choices } : options,
  }));
  await requireRoom(context.models, card, generations, request.max_tokens == null);
  const isOpen = hasOpenOutput(request, fillsContext);
  const admission = admissionOf(principal, generations, card, isOpen);
  return { jobs: jobs as [NewJob, ...NewJob[]], admission };
}

/** @throws AppError invalid_request if a request has too many jobs, or if these have too much metadata or too many tokens together */
function checkChoices(
  { max_tokens, metadata }: GenerationRequest["request"],
  choices: number,
): void {
  const choicesMax = LIMITS.jobsPerRequestMax;
  if (choices > choicesMax) {
    const message = `n times the number of prompts must be at most ${choicesMax}, received ${choices}`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  const pairs = Object.keys(metadata ?? {}).length;
  if (pairs * choices > LIMITS.requestPairsMax) {
    const message = `The pairs of metadata times the number of choices must be at most ${LIMITS.requestPairsMax}, received ${pairs} times ${choices}`;
    throw new AppError("invalid_request", message, { param: "metadata" });
  }
  const maxTokens = max_tokens ?? LIMITS.maxTokensDefault;
  if (choices === 1 || maxTokens * choices <= LIMITS.requestTokensMax) return;
  const message = `max_tokens times the number of choices must be at most ${LIMITS.requestTokensMax}, received ${maxTokens} times ${choices}`;
  throw new AppError("invalid_request", message, { param: "max_tokens" });
}

const hasOpenOutput = ({ max_tokens }: GenerationRequest["request"], fillsContext?: boolean) =>
  fillsContext === true && max_tokens == null;

/** The fields of a request that do not affect the generated tokens and are stored with its jobs. */
function storedOptions(request: GenerationRequest["request"]): RequestOptions {
  const { response_format: format, store, user, safety_identifier, prompt_cache_key } = request;
  const events = request.webhook?.events;
  return {
    ...(events && { webhookEvents: events }),
    ...(format && format.type !== "text" && { format }),
    ...(store != null && { store }),
    ...(user != null && { user }),
    ...(safety_identifier != null && { safetyIdentifier: safety_identifier }),
    ...(prompt_cache_key != null && { promptCacheKey: prompt_cache_key }),
  };
}

/** @throws AppError invalid_request if no webhook may be sent to the URL */
export function requireAllowedUrl(
  { webhookAllow }: Pick<RequestContext, "webhookAllow">,
  url: string,
  param: string,
): void {
  const problem = urlProblem(url, webhookAllow);
  if (problem !== null) throw new AppError("invalid_request", `${param} ${problem}`, { param });
}

type RequestPairs = NonNullable<JobRequest["steering"]>["pairs"];

/** Reads the ensemble of each pair. @throws AppError model_not_found, permission_denied */
export async function resolvePairs(
  context: RequestContext,
  pairs: RequestPairs,
): Promise<ResolvedPair[] | null> {
  if (!pairs) return null;
  const resolved = pairs.map(async ({ model, weight }, i) => {
    const card = await requireModel(context, model, `steering.pairs.${i}.model`);
    return { card, weight: weight ?? 1 };
  });
  return Promise.all(resolved);
}

/** The model of this id. @throws AppError model_not_found, permission_denied */
export async function requireModel(
  { principal, models }: Pick<RequestContext, "principal" | "models">,
  id: string,
  param = "model",
): Promise<ModelCard> {
  if (!mayUseModel(principal, id)) {
    const message = `This API key may use only ${principal.limits.models?.join(", ")}`;
    throw new AppError("permission_denied", message, { param });
  }
  const card = await models.model(id);
  if (card === null) {
    throw new AppError(
      "model_not_found",
      "No worker serves this model, or has served it within the last day; see GET /v1/models",
      {
        param,
      },
    );
  }
  return card;
}

/** Whether the API key's policy allows the model. */
export function mayUseModel({ limits }: ApiKeyRecord, model: string): boolean {
  return limits.models?.includes(model) ?? true;
}

/** A job of the API key's tenant, by any of its ids. @throws AppError not_found, also for a job of another tenant */
export async function requireOwnJob(
  { principal, jobs }: Pick<RequestContext, "principal" | "jobs">,
  id: string,
  param?: string,
): Promise<JobRecord> {
  const record = await jobs.record(toJobId(id));
  if (record === null || record.tenant !== principal.tenant) throw jobNotFound(param);
  return record;
}

/** A key that puts the text of another job into a prompt can read that text. @throws AppError permission_denied */
export function requireReader({ scopes }: Pick<ApiKeyRecord, "scopes">, param: string): void {
  if (scopes.includes("jobs:read")) return;
  const message = `${param}: a key needs the scope jobs:read to continue another job`;
  throw new AppError("permission_denied", message, { param });
}

export function jobNotFound(param?: string): AppError {
  const message = "There is no such job; ended jobs are deleted after a while";
  return new AppError("not_found", message, param === undefined ? {} : { param });
}
