/** The ensembles that workers serve, under the names that requests call `model`. */
import { Hono } from "hono";
import type { Model } from "../../shared/contract.ts";
import type { ModelCard } from "../../shared/job.ts";
import type { AppEnv } from "../context.ts";
import { mayUse, requireModel } from "../submission.ts";

export function modelRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const cards = await c.var.backend.models();
    return c.json({ object: "list", data: cards.filter(({ id }) => mayUse(c, id)).map(toModel) });
  });

  // A name may hold slashes.
  routes.get("/:id{.+}", async (c) => c.json(toModel(await requireModel(c, c.req.param("id")))));

  return routes;
}

function toModel(card: ModelCard): Model {
  return {
    id: card.id,
    object: "model",
    created: Math.floor(card.createdAtMs / 1000),
    owned_by: "trimtab",
    description: card.description,
    context_tokens: card.contextTokens,
    alpha: { default: card.alphaDefault, max: card.alphaMax },
  };
}
