/** `POST /v1/chat/completions`: a job, asked for and answered in OpenAI's chat protocol. */
import { Hono } from "hono";
import { ChatRequest } from "../../shared/contract.ts";
import { answer, answerOptions } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import type { Log } from "../log.ts";
import { chatShapes } from "../openai-shapes.ts";
import { submit } from "../submission.ts";
import { inputOf, parseRequest } from "../validate.ts";

export function chatRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = parseRequest(ChatRequest, await readJson(c.req.raw));
    // The newer name wins, as at OpenAI, where the older one is deprecated.
    const max_tokens = body.max_completion_tokens ?? body.max_tokens;
    const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : null;
    const request = { ...body, max_tokens, logprobs };
    const job = await submit(c, { request, input: inputOf(body), deadlineSeconds });
    return answer(c, job, chatShapes(job), answerOptions(body, log));
  });

  return routes;
}
