/** `POST /v1/completions`: jobs, asked for and answered in OpenAI's older protocol; a prompt is used as it is. */
import { Hono } from "hono";
import { CompletionRequest } from "../../shared/openai.ts";
import { completionAsking } from "../../shared/protocols.ts";
import { answer, answerOptions } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import type { Log } from "../log.ts";
import { completionShapes } from "../../shared/openai-shapes.ts";
import { submit } from "../submission.ts";
import { parseRequest } from "../../shared/validate.ts";

export function completionRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = parseRequest(CompletionRequest, await readJson(c.req.raw));
    const job = await submit(c, completionAsking(body), deadlineSeconds);
    return answer(c, job, completionShapes(job), answerOptions(body, log));
  });

  return routes;
}
