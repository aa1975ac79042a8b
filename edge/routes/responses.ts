/**
 * `/v1/responses`: jobs in the protocol of OpenAI's Responses API. Every job of the caller can be read, streamed, cancelled and
 * deleted here, in whichever protocol it was submitted.
 */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { isEnd } from "../../shared/api/job-events.ts";
import type { EndEvent, JobEvent } from "../../shared/api/job-events.ts";
import { ResponseInputItemPage } from "../../shared/api/response-items.ts";
import {
  Include,
  ResponseDeletion,
  ResponseObject,
  ResponseRequest,
  ResponseStreamEvent,
} from "../../shared/api/responses.ts";
import { field } from "../../shared/api/schema.ts";
import { InputTokens } from "../../shared/api/tokenizers.ts";
import { responseId } from "../../shared/jobs/ids.ts";
import { toEvent } from "../../shared/jobs/log-entry.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { endError, requireSuccess } from "../../shared/protocols/whole-reply.ts";
import type { AnsweredJob } from "../../shared/protocols/chat-replies.ts";
import { fromResponse } from "../../shared/protocols/index.ts";
import { toInputItems } from "../../shared/protocols/response-input.ts";
import { toResponse } from "../../shared/protocols/response-object.ts";
import { jobNotFound } from "../../shared/submission/submission.ts";
import { ANSWER } from "../answers/answer.ts";
import { obfuscated } from "../answers/obfuscation.ts";
import { ResponseEvents } from "../answers/response-events.ts";
import type { AppContext } from "../http/context.ts";
import { PAGE_QUERY, pageReply } from "../http/page.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { streamFrames, streamOnceStarted, type SseFrame, type StreamControl } from "../http/sse.ts";
import { mayRead } from "../middleware/authorize.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import {
  CURSOR,
  cursorBeyondEnd,
  isReconnect,
  JOB_ID,
  readCursor,
  requireJob,
  STREAM,
  STREAM_READ_TO_END,
  wantsStream,
} from "../requests/job-access.ts";
import { countPromptTokens, TOKENIZER } from "../requests/tokenizer.ts";
import { startChecked } from "../requests/prompt-check.ts";
import { requestContext, submit, SUBMISSION } from "../requests/submit.ts";
import { WAIT, waitAsPreferred, waitForEnd } from "../requests/wait.ts";
import type { Log } from "../runtime/log.ts";
import type { RouteSettings } from "./settings.ts";

/** The reply to a cancellation waits this long until the job has ended: a worker cancels a job at its next token. */
const CANCEL_WAIT_MS = 3_000;

const EXAMPLE = { model: "atlas-qa", input: "What is the capital of France?" };

const PROMPT = { prompt: "input" };

const INCLUDE = {
  include: field(
    v.optional(Include),
    "Accepted and not used: a response always has the details that it was created with.",
    { examples: [["message.output_text.logprobs"]] },
  ),
};

const OBFUSCATION = {
  include_obfuscation: field(
    v.optional(v.picklist(["true", "false"]), "false"),
    "Whether random characters pad the events with text of a stream, in their field `obfuscation`.",
    { examples: ["true"] },
  ),
};

const RESPONSE = {
  description: "The response; with `stream`, its events.",
  schema: ResponseObject,
  events: { data: ResponseStreamEvent, endsWithDone: true },
};

export function responseRoutes({ deadlineSeconds, log }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/responses",
        operationId: "createResponse",
        tag: "OpenAI",
        summary: "Create a response",
        description:
          "The reply waits until the response is finished, or streams it. With `background` it does not wait.",
        access: { scope: "jobs:write" },
        body: jsonBody(ResponseRequest, EXAMPLE),
        uses: [...SUBMISSION, WAIT, ANSWER],
        replies: { 200: RESPONSE },
        errors: ["not_found"],
      },
      async (c, { body, json }) => {
        const request = await fromResponse(requestContext(c), body);
        const job = await submit(c, request, deadlineSeconds);
        if (body.stream) {
          const obfuscates = body.stream_options?.include_obfuscation ?? false;
          return streamNewResponse(c, job, { after: -1, obfuscates, log });
        }
        if (body.background) return json(200, await readResponse(c, await waitAsPreferred(c, job)));
        const ended = await waitForEnd(c, job);
        const reply = await c.var.stores.readJob(ended);
        const { state, error } = reply;
        if (state === "failed" || state === "expired")
          requireSuccess({ type: state, error }, PROMPT);
        return json(200, toResponse(ended, reply));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/responses/input_tokens",
        operationId: "countResponseInputTokens",
        tag: "OpenAI",
        summary: "Count the tokens of a response's input",
        description:
          "It takes the fields of a response, and counts the tokens of the base's prompt with its functions. No job is created; the call counts as one request of the API key.",
        access: { scope: "jobs:write" },
        body: jsonBody(ResponseRequest, EXAMPLE),
        uses: [TOKENIZER],
        replies: { 200: { description: "The count.", schema: InputTokens } },
        errors: ["not_found"],
      },
      async (c, { body, json }) => {
        const request = await fromResponse(requestContext(c), body);
        const input_tokens = await countPromptTokens(c, request);
        return json(200, { object: "response.input_tokens", input_tokens });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/responses/{id}",
        operationId: "getResponse",
        tag: "OpenAI",
        summary: "Read a response, or stream its events",
        description: "A stream begins with the first event, or after the reader's last one.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        query: { ...INCLUDE, ...OBFUSCATION },
        uses: [WAIT, STREAM, CURSOR],
        replies: { 200: RESPONSE, 204: STREAM_READ_TO_END },
      },
      async (c, { params, query, json }) => {
        const record = await requireJob(c, params.id);
        const after = readCursor(c) ?? -1;
        if (!wantsStream(c)) {
          return json(200, await readResponse(c, await waitAsPreferred(c, record)));
        }
        if (after >= 0 && (await isResponseReadToEnd(c, after, record))) return c.body(null, 204);
        const obfuscates = query.include_obfuscation === "true";
        return streamFrames(c, ...responseStream(c, record, { after, obfuscates, log }));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/responses/compact",
        operationId: "compactResponse",
        tag: "OpenAI",
        summary: "Compact a conversation",
        description: "Not supported: every request is refused.",
        access: { scope: "jobs:write" },
        replies: {},
        errors: ["unsupported_parameter"],
      },
      () => {
        const message =
          "Conversations cannot be compacted here: shorten the input, or begin without previous_response_id";
        throw new AppError("unsupported_parameter", message);
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/responses/{id}/cancel",
        operationId: "cancelResponse",
        tag: "OpenAI",
        summary: "Cancel a response",
        description: `The text so far is kept. The reply waits up to ${CANCEL_WAIT_MS / 1000} seconds until the response has ended. For a key without the scope \`jobs:read\` it has no text, instructions or metadata.`,
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        replies: { 200: { description: "The response.", schema: ResponseObject } },
      },
      async (c, { params, json }) => {
        const { id } = await requireJob(c, params.id);
        if ((await c.var.stores.cancelJob(id)) === null) throw jobNotFound();
        const record = await waitForEnd(c, await requireJob(c, id), CANCEL_WAIT_MS);
        const response = await readResponse(c, record);
        const hidden = { output: [], instructions: null, metadata: {} };
        return json(200, mayRead(c) ? response : { ...response, ...hidden });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/responses/{id}",
        operationId: "deleteResponse",
        tag: "OpenAI",
        summary: "Delete a response",
        description: "A response that is not finished is cancelled first.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        replies: { 200: { description: "The response is deleted.", schema: ResponseDeletion } },
      },
      async (c, { params, json }) => {
        const { id } = await requireJob(c, params.id);
        await c.var.stores.deleteJob(id);
        return json(200, { id: responseId(id), object: "response", deleted: true });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/responses/{id}/input_items",
        operationId: "listResponseInputItems",
        tag: "OpenAI",
        summary: "List the messages that a response continues",
        description: "The messages of the request, after those of the responses before it.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        query: { ...PAGE_QUERY, ...INCLUDE },
        replies: { 200: { description: "One page of messages.", schema: ResponseInputItemPage } },
      },
      async (c, { params, query, json }) => {
        const record = await requireJob(c, params.id);
        return json(200, pageReply(toInputItems(record).toReversed(), query));
      },
    ),
  ];
}

async function readResponse(c: AppContext, record: JobRecord): Promise<ResponseObject> {
  return toResponse(record, await c.var.stores.readJob(record));
}

/**
 * Whether an EventSource that reconnects has the last event. It reconnects after every stream, until a reply is 204.
 * @param after number of the last event that the reader has
 * @throws AppError events_lost for a number beyond the last event so far
 */
async function isResponseReadToEnd(
  c: AppContext,
  after: number,
  record: JobRecord,
): Promise<boolean> {
  const jobEvents = await c.var.stores.jobs.log(record.id);
  const events = new ResponseEvents(record);
  for (const event of jobEvents) events.next(event);
  if (after > events.last) throw cursorBeyondEnd(c);
  const last = jobEvents.at(-1);
  return isReconnect(c) && after === events.last && last !== undefined && isEnd(last);
}

interface ResponseStreamOptions {
  /** Number of the last event that the reader has; -1 for none. */
  readonly after: number;
  /** Whether events with text are padded. */
  readonly obfuscates: boolean;
  readonly log: Log;
}

/** The stream of a response that has just been created. @throws AppError the error of a job that fails soon and before its first token */
function streamNewResponse(
  c: AppContext,
  job: AnsweredJob,
  options: ResponseStreamOptions,
): Promise<Response> {
  const start = () => streamOnceStarted(c, ...responseStream(c, job, options));
  return startChecked(c, job, [job.id], start);
}

/** The frames of a response's stream, and the frame of an error. */
function responseStream(c: AppContext, job: AnsweredJob, options: ResponseStreamOptions) {
  const { log } = options;
  const events = new ResponseEvents(job);
  return [
    (control: StreamControl) => responseFrames(c, job.id, events, { ...options, ...control }),
    (thrown: unknown) => {
      const { error } = streamErrorBody(c, log, job.id, thrown);
      const { code, message, param } = error;
      // The `openai` clients read the members or the `error`, depending on their major version. The number is that of the last
      // event, so that a reader that reconnects continues after it.
      const data = { type: "error", sequence_number: events.last, code, message, param, error };
      return { event: "error", data: JSON.stringify(data) };
    },
  ] as const;
}

/** Whether the job has ended with an error. A cancelled response is incomplete. */
const hasFailed = (event: JobEvent): event is EndEvent =>
  event.type === "failed" || event.type === "expired";

async function* responseFrames(
  c: AppContext,
  jobId: string,
  events: ResponseEvents,
  { after, obfuscates, signal, heartbeat }: ResponseStreamOptions & StreamControl,
): AsyncGenerator<SseFrame> {
  let last: JobEvent | null = null;
  let isOpening = true;
  const toData = (event: ResponseStreamEvent) =>
    JSON.stringify(obfuscates && "delta" in event ? obfuscated(event) : event);
  const request = { after: 0, signal, onIdle: heartbeat };
  for await (const entry of c.var.stores.followJob(jobId, request)) {
    const event = toEvent(entry);
    last = event;
    const record = isEnd(event) ? await c.var.stores.jobs.record(jobId) : null;
    const endedAtMs = record?.endedAtMs ?? null;
    const refusal = isOpening && hasFailed(event) ? endError(event, PROMPT) : null;
    isOpening &&= event.type !== "tokens" && !isEnd(event);
    for (const responseEvent of events.next(event, endedAtMs)) {
      const { sequence_number: id, type } = responseEvent;
      if (id <= after) continue;
      const frame = { id, event: type, data: toData(responseEvent) };
      yield { ...frame, isOpening, ...(refusal && { refusal }) };
    }
  }
  if (last === null || !isEnd(last)) throw jobNotFound();
  // The Open Responses specification requires this, and OpenAI's clients accept it.
  yield { data: "[DONE]" };
}
