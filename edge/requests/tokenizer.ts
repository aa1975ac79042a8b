/** Asks a worker's tokenizer: the edge has none. The answer comes within seconds, or the request fails with 503. */
import { AppError } from "../../shared/api/errors.ts";
import { keyLimit } from "../../shared/jobs/admission.ts";
import { newId } from "../../shared/ids.ts";
import {
  mayUseModel,
  requireModel,
  submissionOf,
  type GenerationRequest,
} from "../../shared/submission/submission.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import {
  TOKENIZER_PENDING_MAX,
  TOKENIZER_WAIT_MS,
  type TokenizerAnswer,
  type TokenizerQuestion,
} from "../../shared/workers/tokenizer-requests.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";
import { limitError } from "./rate-limits.ts";
import { requestContext } from "./submit.ts";

/** The contract part of routes that call `askTokenizer`. */
export const TOKENIZER: ContractPart = {
  errors: [
    "model_not_found",
    "context_length_exceeded",
    "rate_limit_exceeded",
    "worker_unavailable",
  ],
};

/**
 * The card of the model that a request names. Without a name, that of a model with the only base that the key may use.
 * @throws AppError model_not_found, permission_denied, invalid_request
 */
export async function tokenizerModel(
  c: AppContext,
  name: string | null | undefined,
): Promise<ModelCard> {
  if (name != null) return requireModel(requestContext(c), name);
  const models = await c.var.stores.fleet.models();
  const usable = models.filter(({ card }) => mayUseModel(c.var.principal, card.id));
  const [first] = usable.toSorted((a, b) => b.workers.length - a.workers.length);
  if (first && usable.every(({ card }) => card.base === first.card.base)) return first.card;
  const message = first
    ? "model is required: the models that this API key may use have different bases"
    : "No worker serves a model that this API key may use";
  throw new AppError(first ? "invalid_request" : "model_not_found", message, { param: "model" });
}

type AnswerTo<Question extends TokenizerQuestion> = Extract<
  TokenizerAnswer,
  { readonly kind: Question["kind"] }
>;

/**
 * The answer of a worker that serves the model. It counts as one request of the API key.
 * @throws AppError what is wrong with the question; rate_limit_exceeded; worker_unavailable
 */
export async function askTokenizer<const Question extends TokenizerQuestion>(
  c: AppContext,
  { id: model }: Pick<ModelCard, "id">,
  question: Question,
): Promise<AnswerTo<Question>> {
  const { principal, stores } = c.var;
  const { tenant } = principal;
  if ((await stores.fleet.workersOf(model)).length === 0) throw unavailable(model);
  const pools = [{ id: principal.id, limits: principal.limits }, ...principal.within].flatMap(
    (pool) => {
      const requestsPerMinute = keyLimit(pool.limits, "requests");
      return requestsPerMinute === null ? [] : [{ ...pool, requestsPerMinute }];
    },
  );
  const request = { id: newId("tok"), tenant, model, question };
  const result = await stores.submitTokenizerRequest(request, pools);
  if (result.status === "limited") {
    const { pool, waitMs } = result;
    throw limitError(c, { limit: "requests", pool: pools[pool]!, waitMs });
  }
  if (result.status === "pending") {
    const message = `At most ${TOKENIZER_PENDING_MAX} requests of this tenant for tokenizers may wait at once`;
    throw new AppError("rate_limit_exceeded", message, { retryAfterMs: 1_000 });
  }
  const answer = await awaitAnswer(c, request.id);
  if (answer === null) throw unavailable(model);
  if (answer.kind !== "error") return answer as AnswerTo<Question>;
  throw new AppError(
    answer.code,
    answer.message,
    answer.param === null ? {} : { param: answer.param },
  );
}

/**
 * Tokens of the base's prompt for a request with one input, and the functions that the prompt shows. The request is checked as one that
 * creates a job.
 * @throws AppError as `askTokenizer`, and what is wrong with the request
 */
export async function countPromptTokens(
  c: AppContext,
  request: GenerationRequest,
): Promise<number> {
  const job = { id: newId("job"), deadlineInMs: 0 };
  const { jobs } = await submissionOf(requestContext(c), request, job);
  const { model: id, input, tools } = jobs[0].generation;
  if (input.kind === "tokens") return input.ids.length;
  const shown = tools && tools.choice !== "none" ? { tools: tools.functions } : {};
  const question = {
    kind: "encode",
    input: { ...input, ...shown },
    addSpecialTokens: true,
    withTexts: false,
  } as const;
  return (await askTokenizer(c, { id }, question)).ids.length;
}

async function awaitAnswer(c: AppContext, id: string): Promise<TokenizerAnswer | null> {
  const timeout = AbortSignal.timeout(TOKENIZER_WAIT_MS);
  const signal = AbortSignal.any([c.req.raw.signal, timeout]);
  for await (const { data } of c.var.stores.followJob(id, { after: 0, signal })) {
    return JSON.parse(data) as TokenizerAnswer;
  }
  return null;
}

function unavailable(model: string): AppError {
  const message = `No worker that serves ${model} answers at the moment; try again`;
  return new AppError("worker_unavailable", message, { param: "model" });
}
