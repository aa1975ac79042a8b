/** `POST /v1/completions`: jobs, asked for and answered in OpenAI's older protocol; a prompt is used as it is. */
import { Hono } from "hono";
import { CompletionRequest } from "../../shared/openai.ts";
import { answer, answerOptions } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import type { Log } from "../log.ts";
import { completionShapes } from "../openai-shapes.ts";
import { submitChoices } from "../submission.ts";
import { inputsOf, parseRequest } from "../validate.ts";

export function completionRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const request = parseRequest(CompletionRequest, await readJson(c.req.raw));
    const options = answerOptions(request, log);
    const inputs = inputsOf(request);
    const job = await submitChoices(c, { request, inputs, n: options.n, deadlineSeconds });
    return answer(c, job, completionShapes(job), options);
  });

  return routes;
}
