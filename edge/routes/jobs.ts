/** Jobs as a resource: submit, read, follow, cancel. A job of another tenant is one that does not exist. */
import { Hono } from "hono";
import { isTerminal, JobRequest, type JobEvent } from "../../shared/contract.ts";
import { AppError } from "../../shared/errors.ts";
import type { JobRecord } from "../../shared/job.ts";
import { readJson } from "../body.ts";
import type { AppContext, AppEnv } from "../context.ts";
import type { Log } from "../log.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import { streamFrames, type Frame, type StreamControl } from "../sse.ts";
import { submit } from "../submission.ts";
import { inputOf, parseRequest } from "../validate.ts";

export function jobRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const request = parseRequest(JobRequest, await readJson(c.req.raw));
    const { id } = await submit(c, { request, input: inputOf(request), deadlineSeconds });
    const record = await requireJob(c, id);
    c.header("Location", `/v1/jobs/${id}`);
    return c.json(await c.var.backend.view(record), 202);
  });

  routes.get("/:id", async (c) => {
    const record = await requireJob(c, c.req.param("id"));
    return c.json(await c.var.backend.view(record));
  });

  routes.post("/:id/cancel", async (c) => {
    const { id } = await requireJob(c, c.req.param("id"));
    const job = await c.var.backend.cancel(id);
    if (job === null) throw noSuchJob();
    return c.json(job);
  });

  routes.get("/:id/events", async (c) => {
    const after = readCursor(c);
    const { id, seq, state } = await requireJob(c, c.req.param("id"));
    // 204 tells an EventSource, which reconnects whenever a stream ends, that there is nothing left.
    if (isTerminal(state) && after >= seq) return c.body(null, 204);
    if (after > seq) throw badCursor(`must be at most ${seq}, the last event so far`);
    return streamFrames(
      c,
      (control) => eventFrames(c, id, after, control),
      // Without an id, so that a reader which comes back goes on after the last event.
      (error) => ({ event: "error", data: streamErrorBody(c, log, id, error) }),
    );
  });

  return routes;
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

/** The caller's job; whether a foreign one exists must not show. @throws AppError not_found */
async function requireJob(c: AppContext, id: string): Promise<JobRecord> {
  const record = await c.var.backend.record(id);
  if (record === null || record.tenant !== c.var.principal.tenant) throw noSuchJob();
  return record;
}

function noSuchJob(): AppError {
  return new AppError("not_found", "There is no such job; ended jobs are deleted after a while");
}

/** The last event that the reader has: a browser's own header wins, because it is the newer one on a reconnect. */
function readCursor(c: AppContext): number {
  const cursor =
    c.req.header("last-event-id") || c.req.query("after") || c.req.query("starting_after") || "0";
  if (!/^\d{1,15}$/.test(cursor)) throw badCursor("must be the number of an event");
  return Number(cursor);
}

function badCursor(complaint: string): AppError {
  return new AppError("invalid_request", `after ${complaint}`, { param: "after" });
}
