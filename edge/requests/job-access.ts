/** Access to the caller's jobs, and the cursor after which a reader continues a stream. */
import * as v from "valibot";
import { isTerminal } from "../../shared/api/jobs.ts";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { jobNotFound, requireOwnJob } from "../../shared/submission/submission.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart, ReplyDeclaration } from "../http/route.ts";
import { eventsLost } from "../redis/read-position.ts";
import { requestContext } from "./submit.ts";

/** The caller's job. A job of another tenant is reported as not found. @throws AppError not_found */
export function requireJob(c: AppContext, id: string): Promise<JobRecord> {
  return requireOwnJob(requestContext(c), id);
}

/** Replaces the metadata of jobs. @throws AppError not_found; rate_limit_exceeded if the tenant would store too many bytes */
export async function replaceMetadata(
  c: AppContext,
  ids: readonly string[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const { stores, principal } = c.var;
  for (const id of ids) {
    const result = await stores.setMetadata({ id, tenant: principal.tenant }, metadata);
    if (result === "missing") throw jobNotFound();
    if (result === "full") {
      const message = "metadata: this tenant stores as many bytes as allowed; delete jobs first";
      throw new AppError("rate_limit_exceeded", message, { param: "metadata" });
    }
  }
}

/** The path parameter of one job. */
export const JOB_ID = field(
  v.string(),
  "The id of a job. A chat completion and a response have their job's id with another prefix: `job_X`, `resp_X` and `chatcmpl-job_X` name the same job.",
  { examples: ["job_0198c2f4e5b07a31"] },
);

/** The contract part of routes that call `wantsStream`. */
export const STREAM: ContractPart = {
  query: {
    stream: field(
      v.optional(v.picklist(["true", "false"]), "false"),
      "Whether the reply is a stream of events.",
      { examples: ["true"] },
    ),
  },
};

/** Whether a GET request asks for a stream of events. @throws AppError invalid_request */
export function wantsStream(c: AppContext): boolean {
  const stream = c.req.query("stream") ?? "false";
  if (stream === "true" || stream === "false") return stream === "true";
  throw new AppError("invalid_request", "stream must be true or false", { param: "stream" });
}

const eventNumber = (description: string) =>
  field(v.optional(v.pipe(v.string(), v.regex(/^\d{0,15}$/))), description, { examples: ["12"] });

/** The contract part of routes that call `readCursor` and `isReadToEnd`. */
export const CURSOR: ContractPart = {
  errors: ["events_lost"],
  query: {
    after: eventNumber(
      "The number of the last event that the reader has. The stream continues after it.",
    ),
    starting_after: eventNumber("The same as `after`, under the name that OpenAI's API uses."),
    lastEventId: eventNumber(
      "The same as the header `Last-Event-ID`, from clients in browsers that cannot send it. It has precedence over `after`.",
    ),
  },
  headers: {
    "Last-Event-ID": eventNumber(
      "The same as `after`, as an EventSource sends it when it reconnects. It has precedence.",
    ),
  },
};

/** The reply of a stream whose reader has every event. */
export const STREAM_READ_TO_END: ReplyDeclaration = {
  description: "The reader has the last event. After this reply an EventSource does not reconnect.",
};

/** Whether the reader is an EventSource that reconnects. */
export const isReconnect = (c: AppContext): boolean =>
  (c.req.header("last-event-id") ?? c.req.query("lastEventId")) !== undefined;

/**
 * The number of the last event that the reader has, or null. That of a reconnect has precedence, because a browser adds it to
 * the same query as before.
 * @throws AppError invalid_request
 */
export function readCursor(c: AppContext): number | null {
  const cursors = requestCursors(c);
  const wrong = cursors.find(({ value }) => !/^\d{1,15}$/.test(value));
  if (wrong !== undefined) throw cursorError(wrong.name, "must be the number of an event");
  return cursors[0] === undefined ? null : Number(cursors[0].value);
}

/**
 * Whether the reader has every event of an ended job. The reply is then 204, because an EventSource would reconnect after any
 * other end of the stream.
 * @throws AppError events_lost for a cursor beyond the last event
 */
export function isReadToEnd(c: AppContext, after: number, { seq, state }: JobRecord): boolean {
  if (after > seq) throw cursorBeyondEnd(c);
  return isTerminal(state) && after === seq;
}

/** The error for a cursor beyond the last event. */
export function cursorBeyondEnd(c: AppContext): AppError {
  return eventsLost(requestCursors(c)[0]?.name ?? "after");
}

/** The cursors of a request, the one that has precedence first. */
function requestCursors(c: AppContext) {
  const { after, starting_after, lastEventId } = c.req.query();
  return [
    { name: "Last-Event-ID", value: c.req.header("last-event-id") ?? "" },
    { name: "lastEventId", value: lastEventId ?? "" },
    { name: "after", value: after ?? "" },
    { name: "starting_after", value: starting_after ?? "" },
  ].filter(({ value }) => value !== "");
}

function cursorError(param: string, problem: string): AppError {
  return new AppError("invalid_request", `${param} ${problem}`, { param });
}
