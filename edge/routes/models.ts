/** The ensembles that workers serve: requests name one of them as `model`. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { Model, ModelList } from "../../shared/api/models.ts";
import { field } from "../../shared/api/schema.ts";
import type { KnownModel } from "../../shared/workers/registry.ts";
import { mayUseModel, requireModel } from "../../shared/submission/submission.ts";
import { pageLimit } from "../http/page.ts";
import { route, type Route } from "../http/route.ts";
import { requestContext } from "../requests/submit.ts";

const MODEL_ID = field(v.string(), "The name of a model. It may contain slashes.", {
  examples: ["atlas-qa"],
});

/** Anthropic's clients ask for up to so many models. */
const LIMIT_MAX = 1_000;

const LIST_QUERY = {
  limit: field(
    v.optional(pageLimit(LIMIT_MAX)),
    "The largest number of models on the page. Without it the page has all of them.",
    { examples: [20] },
  ),
  after_id: field(
    v.optional(v.string()),
    "The page begins after the model with this id: the `last_id` of the page before.",
    { examples: ["atlas-qa"] },
  ),
  before_id: field(
    v.optional(v.string()),
    "The page ends before the model with this id: the `first_id` of the page after. `has_more` then says whether there are more before this page.",
    { examples: ["atlas-qa"] },
  ),
  lifecycle: field(
    v.optional(v.array(v.picklist(["active", "deprecated", "retired"]))),
    "The stages of the models. Every model here is `active`: without this value the page is empty. Default: all stages.",
    { examples: [["active"]] },
  ),
};
type ListQuery = v.InferOutput<v.ObjectSchema<typeof LIST_QUERY, undefined>>;

/** One page of the models. @throws AppError invalid_request for an id that is not in the list */
function modelPage(models: readonly KnownModel[], query: ListQuery) {
  const indexOf = (param: "after_id" | "before_id"): number | null => {
    const id = query[param];
    const index = models.findIndex(({ card }) => card.id === id);
    if (id === undefined) return null;
    if (index !== -1) return index;
    throw new AppError("invalid_request", `${param} must be an id of this list`, { param });
  };
  const after = indexOf("after_id");
  const before = indexOf("before_id");
  const isListed = query.lifecycle?.includes("active") ?? true;
  const between = isListed ? models.slice((after ?? -1) + 1, before ?? models.length) : [];
  const limit = query.limit ?? models.length;
  const isBackward = before !== null && after === null;
  const page = isBackward ? between.slice(-limit) : between.slice(0, limit);
  return { page, hasMore: page.length < between.length };
}

/** Models that the operator has paused, by their id. */
type PausedModels = Pick<ReadonlyMap<string, unknown>, "has">;

export function modelRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/models",
        operationId: "listModels",
        tag: "OpenAI",
        summary: "List the models and the steering that they allow",
        description:
          "A model is an ensemble of a base, an expert and an antiexpert. The list has the models that a worker serves now, and those that one has served within the last day, by their ids. The query is that of Anthropic's API; without it the page has all models.",
        access: { scope: "jobs:read" },
        query: LIST_QUERY,
        replies: {
          200: { description: "The models that the API key may use.", schema: ModelList },
        },
      },
      async (c, { query, json }) => {
        const { fleet } = c.var.stores;
        const [models, paused] = await Promise.all([fleet.models(), fleet.pausedModels()]);
        const usable = models.filter(({ card }) => mayUseModel(c.var.principal, card.id));
        const { page, hasMore } = modelPage(usable, query);
        const data = page.map((model) => toModel(model, paused));
        const [first_id, last_id] = [data[0]?.id ?? null, data.at(-1)?.id ?? null];
        return json(200, { object: "list", data, first_id, last_id, has_more: hasMore });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/models/{id}",
        paramPatterns: { id: ".+" },
        operationId: "getModel",
        tag: "OpenAI",
        summary: "Read a model",
        description: "The API key must be allowed to use the model.",
        access: { scope: "jobs:read" },
        params: { id: MODEL_ID },
        replies: { 200: { description: "The model.", schema: Model } },
        errors: ["model_not_found"],
      },
      async (c, { params, json }) => {
        const card = await requireModel(requestContext(c), params.id);
        const { fleet } = c.var.stores;
        const [workers, paused] = await Promise.all([
          fleet.workersOf(card.id),
          fleet.pausedModels(),
        ]);
        return json(200, toModel({ card, workers }, paused));
      },
    ),
  ];
}

/** Whether jobs of a model can start now. @param workers those that take jobs for it */
export function modelStatus(
  id: string,
  workers: KnownModel["workers"],
  paused: PausedModels,
): Pick<Model, "status" | "status_reason"> {
  if (paused.has(id)) return { status: "paused", status_reason: null };
  const reasons = workers.map(({ models }) => models.find((model) => model.id === id)?.away);
  if (reasons.length === 0) return { status: "no_worker", status_reason: null };
  const isAway = !reasons.includes(undefined);
  return isAway
    ? { status: "base_away", status_reason: reasons[0]! }
    : { status: "available", status_reason: null };
}

/** Jobs that workers can run at the same time, together. */
export const slotsOf = (workers: KnownModel["workers"]) =>
  workers.reduce((sum, { throughput }) => sum + throughput.slots, 0);

function jobTokensMax(served: KnownModel["workers"][number]["models"]): number | null {
  const known = served.flatMap((model) => model.jobTokensMax?.steered ?? []);
  return known.length === 0 ? null : Math.max(...known);
}

function toModel({ card, workers }: KnownModel, paused: PausedModels): Model {
  const served = workers.flatMap(({ models }) => models.filter(({ id }) => id === card.id));
  const { fingerprint, reproducible } = card;
  const variants = served.length === 0 ? [{ fingerprint, reproducible }] : served;
  const fingerprints = [...new Set(variants.map((variant) => variant.fingerprint))].toSorted();
  return {
    id: card.id,
    object: "model",
    created: Math.floor(card.createdAtMs / 1000),
    owned_by: "trimtab",
    description: card.description,
    context_tokens: card.contextTokens,
    context_length: card.contextTokens,
    max_model_len: card.contextTokens,
    job_tokens_max: jobTokensMax(served),
    slow_graphs: card.slowGraphs ?? [],
    alpha: { default: card.alphaDefault, max: card.alphaMax },
    ...modelStatus(card.id, workers, paused),
    since:
      workers.length === 0
        ? null
        : Math.floor(Math.min(...workers.map(({ sinceMs }) => sinceMs)) / 1000),
    workers: workers.length,
    slots: slotsOf(workers),
    fingerprints,
    reproducible: fingerprints.length === 1 && variants.every((variant) => variant.reproducible),
  };
}
