/** Jobs as a resource: submit, read, follow, cancel, delete. A job of another tenant is one that does not exist. */
import { Hono } from "hono";
import { etag, RETAINED_304_HEADERS } from "hono/etag";
import { isTerminal, JobRequest, type Job, type JobEvent } from "../../shared/contract.ts";
import { ScoreRequest } from "../../shared/score.ts";
import { noSuchJob, type Asking } from "../../shared/submission.ts";
import { readJson } from "../body.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { nothingAfter, readCursor, requireJob } from "../job-access.ts";
import type { Log } from "../log.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import { streamFrames, type Frame, type StreamControl } from "../sse.ts";
import { scoringOf } from "../score.ts";
import { quote, submit } from "../submission.ts";
import { inputOf, parseRequest } from "../../shared/validate.ts";
import { afterWait } from "../wait.ts";

export function jobRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = await readJson(c.req.raw);
    const { id } = await submit(c, askingOf(body), deadlineSeconds);
    const record = await afterWait(c, await requireJob(c, id));
    c.header("Location", `/v1/jobs/${id}`);
    return c.json(await c.var.backend.view(record), isTerminal(record.state) ? 200 : 202);
  });

  routes.post("/quote", async (c) => c.json(await quote(c, askingOf(await readJson(c.req.raw)))));

  routes.get("/:id", etag({ retainedHeaders: RETAINED_HEADERS }), async (c) => {
    const record = await afterWait(c, await requireJob(c, c.req.param("id")));
    const job = await c.var.backend.view(record);
    c.header("Cache-Control", cacheControl(job));
    c.header("Vary", "Authorization", { append: true });
    return c.json(job);
  });

  routes.post("/:id/cancel", async (c) => {
    const { id } = await requireJob(c, c.req.param("id"));
    const job = await c.var.backend.cancel(id);
    if (job === null) throw noSuchJob();
    // A ticket to cancel is none to read.
    const { object, state, cancel_requested } = job;
    return c.json(c.var.ticket ? { id, object, state, cancel_requested } : job);
  });

  routes.delete("/:id", async (c) => {
    const { id } = await requireJob(c, c.req.param("id"));
    await c.var.backend.delete(id);
    return c.json({ id, object: "job", deleted: true });
  });

  routes.get("/:id/events", async (c) => {
    const after = readCursor(c) ?? 0;
    const record = await requireJob(c, c.req.param("id"));
    if (nothingAfter(c, after, record)) return c.body(null, 204);
    const { id } = record;
    return streamFrames(
      c,
      (control) => eventFrames(c, id, after, control),
      // Without an id, so that a reader which comes back goes on after the last event.
      (error) => ({ event: "error", data: JSON.stringify(streamErrorBody(c, log, id, error)) }),
    );
  });

  return routes;
}

/** Of an unchanged job: what caches need, and what any reply has. */
const RETAINED_HEADERS = [
  ...RETAINED_304_HEADERS,
  "access-control-allow-origin",
  "access-control-expose-headers",
  "preference-applied",
  "x-request-id",
];

/** An ended job does not change until it is deleted, but for the deliveries of its webhook. */
function cacheControl({ deleted_at, webhook }: Job): string {
  if (deleted_at === null || webhook !== null) return "private, no-cache";
  const seconds = Math.max(0, Math.floor(deleted_at - Date.now() / 1000));
  return `private, max-age=${seconds}, immutable`;
}

/** A text to score makes it a job of the other kind, with the fields of that kind. */
function askingOf(body: unknown): Asking {
  if (typeof body === "object" && body !== null && "completion" in body) {
    return scoringOf(parseRequest(ScoreRequest, body));
  }
  const request = parseRequest(JobRequest, body);
  return { request, inputs: [inputOf(request)], n: 1 };
}

async function* eventFrames(
  c: AppContext,
  jobId: string,
  after: number,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<Frame> {
  for await (const event of c.var.backend.follow(jobId, { after, signal, onIdle: heartbeat })) {
    yield toFrame(event);
  }
}

function toFrame(event: JobEvent): Frame {
  return { id: event.seq, event: event.type, data: JSON.stringify(event) };
}
