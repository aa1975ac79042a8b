/** The ensembles that workers serve, under the names that requests call `model`. */
import { Hono } from "hono";
import type { Model } from "../../shared/contract.ts";
import type { ModelCard } from "../../shared/job.ts";
import { mayUse, requireModel } from "../../shared/submission.ts";
import type { AppEnv } from "../context.ts";
import { askerOf } from "../submission.ts";

export function modelRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const cards = await c.var.backend.models();
    const usable = cards.filter(({ id }) => mayUse(c.var.principal, id));
    return c.json({ object: "list", data: usable.map(toModel) });
  });

  // A name may hold slashes.
  routes.get("/:id{.+}", async (c) =>
    c.json(toModel(await requireModel(askerOf(c), c.req.param("id")))),
  );

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
