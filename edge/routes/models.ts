/** The ensembles that workers serve: requests name one of them as `model`. */
import * as v from "valibot";
import { Model, ModelList } from "../../shared/api/models.ts";
import { field } from "../../shared/api/schema.ts";
import type { KnownModel } from "../../shared/workers/registry.ts";
import { mayUseModel, requireModel } from "../../shared/submission/submission.ts";
import { route, type Route } from "../http/route.ts";
import { requestContext } from "../requests/submit.ts";

const MODEL_ID = field(v.string(), "The name of a model. It may contain slashes.", {
  examples: ["atlas-qa"],
});

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
          "A model is an ensemble of a base, an expert and an antiexpert. The list has the models that a worker serves now, and those that one has served within the last day.",
        access: { scope: "jobs:read" },
        replies: {
          200: { description: "The models that the API key may use.", schema: ModelList },
        },
      },
      async (c, { json }) => {
        const { fleet } = c.var.stores;
        const [models, paused] = await Promise.all([fleet.models(), fleet.pausedModels()]);
        const usable = models.filter(({ card }) => mayUseModel(c.var.principal, card.id));
        return json(200, { object: "list", data: usable.map((model) => toModel(model, paused)) });
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
