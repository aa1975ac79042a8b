/** `/v1/jobs`: submit, read, follow, cancel and delete jobs. A job of another tenant is reported as not found. */
import { etag, RETAINED_304_HEADERS } from "hono/etag";
import * as v from "valibot";
import {
  isTerminal,
  Job,
  JobCancellation,
  JobDeletion,
  JobRequest,
} from "../../shared/api/jobs.ts";
import { JobEvent } from "../../shared/api/job-events.ts";
import { Quote } from "../../shared/api/queue.ts";
import { field } from "../../shared/api/schema.ts";
import { ScoreRequest } from "../../shared/api/score.ts";
import { eventJson, isLastType } from "../../shared/jobs/log-entry.ts";
import { jobNotFound, type GenerationRequest } from "../../shared/submission/submission.ts";
import { inputOf } from "../../shared/submission/validate.ts";
import { fromScore } from "../answers/score.ts";
import type { AppContext } from "../http/context.ts";
import { LOCATION } from "../http/reply-headers.ts";
import { route, type ContractPart, type JsonBody, type Route } from "../http/route.ts";
import { streamFrames, type SseFrame, type StreamControl } from "../http/sse.ts";
import { mayRead } from "../middleware/authorize.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import {
  CURSOR,
  isReadToEnd,
  JOB_ID,
  readCursor,
  requireJob,
  STREAM_READ_TO_END,
} from "../requests/job-access.ts";
import { quote, submit, SUBMISSION } from "../requests/submit.ts";
import { prefersWait, WAIT, waitAsPreferred } from "../requests/wait.ts";
import type { RouteSettings } from "./settings.ts";

const MESSAGES = [{ role: "user", content: "What is the capital of France?" }];

/** A body with a `completion` scores that text; any other one generates text. */
const BODY: JsonBody<JobRequest | ScoreRequest> = {
  mediaType: "application/json",
  schemas: [JobRequest, ScoreRequest],
  choose: (body) =>
    typeof body === "object" && body !== null && "completion" in body ? ScoreRequest : JobRequest,
  examples: [
    { model: "atlas-qa", messages: MESSAGES, max_tokens: 16, steering: { alpha: 0.5 } },
    { model: "atlas-qa", messages: MESSAGES, completion: "Paris" },
  ],
};

const submitted = (description: string) => ({ description, schema: Job, headers: LOCATION });

/** Headers of an unchanged job: those that caches need, and those of every reply. */
const RETAINED_HEADERS = [
  ...RETAINED_304_HEADERS,
  "access-control-allow-origin",
  "access-control-expose-headers",
  "preference-applied",
  "x-request-id",
];

/** The contract part of the middleware `etag`. */
const ETAG: ContractPart = {
  headers: {
    "If-None-Match": field(
      v.optional(v.string()),
      "The ETag of the job that the caller has. If it is still current, the reply is 304 without a body.",
      { examples: ['"5d41402abc4b2a76b9719d911017c592"'] },
    ),
  },
  replyHeaders: {
    ETag: field(v.string(), "Changes whenever the job changes.", {
      examples: ['"5d41402abc4b2a76b9719d911017c592"'],
    }),
  },
};

export function jobRoutes({ deadlineSeconds, log }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/jobs",
        operationId: "createJob",
        tag: "Jobs",
        summary: "Submit a generation, or a text to score",
        description:
          "The job is queued until a worker is free. With `Prefer: wait=n` the reply waits for its end.",
        access: { scope: "jobs:write" },
        body: BODY,
        uses: [...SUBMISSION, WAIT],
        replies: {
          200: submitted("The job has ended."),
          202: submitted("The job is queued or running."),
        },
      },
      async (c, { body, json }) => {
        if (!prefersWait(c)) c.var.stores.readPlaceWithSubmission();
        const record = await waitAsPreferred(
          c,
          await submit(c, toGenerationRequest(body), deadlineSeconds),
        );
        c.header("Location", `/v1/jobs/${record.id}`);
        return json(isTerminal(record.state) ? 200 : 202, await c.var.stores.readJob(record));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/jobs/quote",
        operationId: "quoteJob",
        tag: "Jobs",
        summary: "Estimate when a job would start",
        description:
          "Nothing is created, and the request counts towards the API key's limits only if it is refused.",
        access: { scope: "jobs:write" },
        body: BODY,
        replies: { 200: { description: "The estimate.", schema: Quote } },
        errors: ["context_length_exceeded", "model_not_found", "rate_limit_exceeded"],
      },
      async (c, { body, json }) => json(200, await quote(c, toGenerationRequest(body))),
    ),
    route(
      {
        method: "GET",
        path: "/v1/jobs/{id}",
        operationId: "getJob",
        tag: "Jobs",
        summary: "Read a job",
        description:
          "A job that has ended changes only in its metadata and in the deliveries of its webhook. With `If-None-Match` an unchanged job is not sent again.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        uses: [WAIT, ETAG],
        middleware: [etag({ retainedHeaders: RETAINED_HEADERS })],
        replies: {
          200: { description: "The job.", schema: Job },
          304: { description: "The job has not changed." },
        },
      },
      async (c, { params, json }) => {
        const record = await waitAsPreferred(c, await requireJob(c, params.id));
        const job = await c.var.stores.readJob(record);
        // The metadata of an ended job may change, and it may be deleted.
        c.header("Cache-Control", "private, no-cache");
        c.header("Vary", "Authorization", { append: true });
        return json(200, job);
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/jobs/{id}/events",
        operationId: "streamJobEvents",
        tag: "Jobs",
        summary: "Follow a job's events",
        description:
          "The stream has all events, or those after the reader's last one, and then new events until the job has ended.",
        access: { scope: "jobs:read", ticket: "stream" },
        params: { id: JOB_ID },
        uses: [CURSOR],
        replies: {
          200: { description: "The events.", events: { data: JobEvent } },
          204: STREAM_READ_TO_END,
        },
      },
      async (c, { params }) => {
        const after = readCursor(c) ?? 0;
        const record = await requireJob(c, params.id);
        if (isReadToEnd(c, after, record)) return c.body(null, 204);
        const { id } = record;
        return streamFrames(
          c,
          (control) => eventFrames(c, id, after, control),
          // Without an id, so that a reader that reconnects continues after the last event.
          (error) => ({ event: "error", data: JSON.stringify(streamErrorBody(c, log, id, error)) }),
        );
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/jobs/{id}/cancel",
        operationId: "cancelJob",
        tag: "Jobs",
        summary: "Cancel a job",
        description:
          "The text so far is kept. A job that has ended does not change. With a ticket, or a key without the scope `jobs:read`, the reply has only the job's state.",
        access: { scope: "jobs:write", ticket: "cancel" },
        params: { id: JOB_ID },
        replies: {
          200: {
            description: "The job, or only its state for a caller that may not read it.",
            schema: v.union([Job, JobCancellation]),
          },
        },
      },
      async (c, { params, json }) => {
        const { id } = await requireJob(c, params.id);
        const job = await c.var.stores.cancelJob(id);
        if (job === null) throw jobNotFound();
        const { object, state, cancel_requested } = job;
        return json(200, mayRead(c) ? job : { id, object, state, cancel_requested });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/jobs/{id}",
        operationId: "deleteJob",
        tag: "Jobs",
        summary: "Delete a job",
        description:
          "A job that has not ended is cancelled first. Its text, events and webhook messages are deleted.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        replies: { 200: { description: "The job is deleted.", schema: JobDeletion } },
      },
      async (c, { params, json }) => {
        const { id } = await requireJob(c, params.id);
        await c.var.stores.deleteJob(id);
        return json(200, { id, object: "job", deleted: true });
      },
    ),
  ];
}

function toGenerationRequest(body: JobRequest | ScoreRequest): GenerationRequest {
  if ("completion" in body) return fromScore(body);
  return { request: body, inputs: [inputOf(body)], n: 1 };
}

/** @throws AppError not_found if the job is deleted before its last event was read */
async function* eventFrames(
  c: AppContext,
  jobId: string,
  after: number,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<SseFrame> {
  const request = { after, signal, onIdle: heartbeat };
  for await (const entry of c.var.stores.followJob(jobId, request)) {
    yield { id: entry.seq, event: entry.type, data: eventJson(entry) };
    if (isLastType(entry.type)) return;
  }
  throw jobNotFound();
}
