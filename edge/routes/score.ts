/** `POST /v1/score`: how likely a given text is under each model, answered when the job that finds out has ended. */
import { Hono } from "hono";
import { ScoreRequest } from "../../shared/score.ts";
import { endOf } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import { scoreShape, scoringOf } from "../score.ts";
import { submit } from "../submission.ts";
import { parseRequest } from "../../shared/validate.ts";

export function scoreRoutes(deadlineSeconds: number): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = parseRequest(ScoreRequest, await readJson(c.req.raw));
    const job = await submit(c, scoringOf(body), deadlineSeconds);
    const { piece, end } = await endOf(c, job.id, c.req.raw.signal);
    return c.json(scoreShape(job, piece, end.usage));
  });

  return routes;
}
