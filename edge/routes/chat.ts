/**
 * `/v1/chat/completions`: jobs, asked for and answered in OpenAI's chat protocol. A job is kept whether or not it was
 * asked to be, so any can be asked for again: the answer waits for its end, or streams.
 */
import { Hono } from "hono";
import { choiceIds } from "../../shared/job-names.ts";
import { ChatRequest } from "../../shared/openai.ts";
import { chatAsking } from "../../shared/protocols.ts";
import { answer, answerOptions } from "../answer.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import { nothingAfter, readCursor, requireJob, wantsStream } from "../job-access.ts";
import type { Log } from "../log.ts";
import { chatShapes } from "../../shared/openai-shapes.ts";
import { submit } from "../submission.ts";
import { parseRequest } from "../../shared/validate.ts";

export function chatRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = parseRequest(ChatRequest, await readJson(c.req.raw));
    const job = await submit(c, chatAsking(body), deadlineSeconds);
    return answer(c, job, chatShapes(job), answerOptions(body, log));
  });

  routes.get("/:id", async (c) => {
    const job = await requireJob(c, c.req.param("id"));
    const stream = wantsStream(c);
    const n = job.asked.choices ?? 1;
    const cursor = readCursor(c) ?? 0;
    const after = stream && n === 1 ? cursor : 0;
    if (nothingAfter(c, after, job)) return c.body(null, 204);
    return answer(c, job, chatShapes(job), { stream, includeUsage: false, n, after, log });
  });

  routes.delete("/:id", async (c) => {
    const job = await requireJob(c, c.req.param("id"));
    await Promise.all(choiceIds(job).map((id) => c.var.backend.delete(id)));
    return c.json({ id: `chatcmpl-${job.id}`, object: "chat.completion.deleted", deleted: true });
  });

  return routes;
}
