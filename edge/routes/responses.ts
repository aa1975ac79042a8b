/**
 * `/v1/responses`: jobs in the protocol of OpenAI's Responses API. Any job of the caller can be read, streamed from any
 * event on, cancelled and deleted here, whatever asked for it.
 */
import { Hono } from "hono";
import { isEnd, type JobEvent } from "../../shared/contract.ts";
import { responseId } from "../../shared/job-names.ts";
import type { JobRecord } from "../../shared/job.ts";
import { responseAsking } from "../../shared/protocols.ts";
import { requireSuccess } from "../../shared/whole-answer.ts";
import { noSuchJob } from "../../shared/submission.ts";
import { ResponseRequest } from "../../shared/responses.ts";
import { readJson } from "../body.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { badCursor, readCursor, requireJob, wantsStream } from "../job-access.ts";
import type { Log } from "../log.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import type { AnsweredJob } from "../../shared/openai-shapes.ts";
import { ResponseEvents } from "../response-events.ts";
import { inResponseWords } from "../../shared/response-format.ts";
import { inputItems } from "../../shared/response-input.ts";
import { toResponse } from "../../shared/response-object.ts";
import { pageOf } from "../page.ts";
import { streamFrames, type Frame, type StreamControl } from "../sse.ts";
import { askerOf, submit } from "../submission.ts";
import { parseRequest } from "../../shared/validate.ts";
import { afterWait, whenEnded } from "../wait.ts";

/** The worker of a running job ends it at its next token; the reply to a cancel waits so long to tell the end. */
const CANCEL_WAIT_MS = 3_000;

export function responseRoutes(deadlineSeconds: number, log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const body = parseRequest(ResponseRequest, await readJson(c.req.raw));
    const asking = await responseAsking(askerOf(c), body);
    const job = await submit(c, asking, deadlineSeconds).catch((error: unknown) => {
      throw inResponseWords(error);
    });
    if (body.stream) return streamResponse(c, job, -1, log);
    const record = await requireJob(c, job.id);
    if (body.background) return c.json(await shown(c, await afterWait(c, record)));
    const ended = await whenEnded(c, record);
    const { state, error } = await c.var.backend.view(ended);
    if (state === "failed" || state === "expired") requireSuccess({ type: state, error });
    return c.json(await shown(c, ended));
  });

  routes.get("/:id", async (c) => {
    const record = await requireJob(c, c.req.param("id"));
    const after = readCursor(c) ?? -1;
    if (!wantsStream(c)) {
      return c.json(await shown(c, await afterWait(c, record)));
    }
    if (after >= 0) {
      const events = await c.var.backend.log(record.id);
      const told = new ResponseEvents(record);
      for (const event of events) told.next(event);
      if (after > told.last)
        throw badCursor(c, `must be at most ${told.last}, the last event so far`);
      const last = events.at(-1);
      // An EventSource reconnects whenever a stream ends, until it is told that there is nothing left.
      const reconnects = c.req.header("last-event-id") !== undefined;
      if (reconnects && after === told.last && last && isEnd(last)) return c.body(null, 204);
    }
    return streamResponse(c, record, after, log);
  });

  routes.post("/:id/cancel", async (c) => {
    const { id } = await requireJob(c, c.req.param("id"));
    if ((await c.var.backend.cancel(id)) === null) throw noSuchJob();
    return c.json(await shown(c, await whenEnded(c, await requireJob(c, id), CANCEL_WAIT_MS)));
  });

  routes.delete("/:id", async (c) => {
    const { id } = await requireJob(c, c.req.param("id"));
    await c.var.backend.delete(id);
    return c.json({ id: responseId(id), object: "response", deleted: true });
  });

  routes.get("/:id/input_items", async (c) => {
    const record = await requireJob(c, c.req.param("id"));
    const { page: data, has_more } = pageOf(c, inputItems(record).toReversed(), ({ id }) => id);
    const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
    return c.json({ object: "list", data, ...ends, has_more });
  });

  return routes;
}

async function shown(c: AppContext, record: JobRecord): Promise<object> {
  return toResponse(record, await c.var.backend.view(record));
}

/** @param after number of the last event that the reader has; -1 for none */
function streamResponse(c: AppContext, job: AnsweredJob, after: number, log: Log): Response {
  const events = new ResponseEvents(job);
  return streamFrames(
    c,
    (control) => responseFrames(c, job.id, events, after, control),
    (thrown) => {
      const { error } = streamErrorBody(c, log, job.id, thrown);
      const { code, message, param } = error;
      // The clients' majors differ in where they look. The number is the last one's: whoever comes back goes on after it.
      const data = { type: "error", sequence_number: events.last, code, message, param, error };
      return { event: "error", data: JSON.stringify(data) };
    },
  );
}

async function* responseFrames(
  c: AppContext,
  jobId: string,
  events: ResponseEvents,
  after: number,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<Frame> {
  const { backend } = c.var;
  let last: JobEvent | null = null;
  for await (const event of backend.follow(jobId, { after: 0, signal, onIdle: heartbeat })) {
    last = event;
    const endedAtMs = isEnd(event) ? ((await backend.record(jobId))?.endedAtMs ?? null) : null;
    for (const told of events.next(event, endedAtMs)) {
      const { sequence_number: id, type } = told;
      if (id > after) yield { id, event: type, data: JSON.stringify(told) };
    }
  }
  if (last === null || !isEnd(last)) throw new Error("The job's events ended before the job did");
  // Open Responses asks for it, and OpenAI's clients know it from their other protocols.
  yield { data: "[DONE]" };
}
