/** `POST /v1/completions`: a job, asked for and answered in OpenAI's older protocol; the prompt is used as it is. */
import { Hono } from "hono";
import { CompletionRequest } from "../../shared/contract.ts";
import { answer, answerOptions } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import type { Log } from "../log.ts";
import { completionShapes } from "../openai-shapes.ts";
import { submit } from "../submission.ts";
import { inputOf, parseRequest } from "../validate.ts";

export function completionRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const request = parseRequest(CompletionRequest, await readJson(c.req.raw));
    const job = await submit(c, { request, input: inputOf(request), deadlineSeconds });
    return answer(c, job, completionShapes(job), answerOptions(request, log));
  });

  return routes;
}
