/** Webhook messages: their ids and their bodies, `{type, timestamp, data}` as in Standard Webhooks. */
import { newId } from "../ids.ts";
import { messageId, responseId } from "../jobs/ids.ts";
import { seconds } from "../jobs/phase.ts";
import type { Batch } from "../api/batches.ts";
import type { FinishReason } from "../api/job-parts.ts";
import { isTerminal, type Job, type JobState } from "../api/jobs.ts";
import type {
  BatchWebhookBody,
  JobRunningWebhookBody,
  JobWebhookBody,
  ResponseWebhookBody,
  WebhookBody,
} from "../api/webhook-bodies.ts";
import type { JobRecord, RequestOptions } from "../jobs/record.ts";
import { LIMITS } from "../api/limits.ts";

/** A message. Every receiver gets this id and this body, at every attempt. */
export interface WebhookMessage {
  readonly id: string;
  readonly type: string;
  readonly body: string;
  /** Null for a batch or a test. */
  readonly jobId: string | null;
  /** The request that caused it, for logs and traces. */
  readonly origin?: RequestOrigin;
}

export type RequestOrigin = Pick<RequestOptions, "requestId" | "traceparent">;

/** Replaces the endpoint in a delivery's id if the receiver is the webhook URL of a job. */
const JOB_URL = "job";
/** @param endpointId null for the webhook URL of a job */
export const deliveryIdOf = (messageId: string, endpointId: string | null) =>
  `${messageId}-${endpointId ?? JOB_URL}`;

/** The message and the endpoint (or JOB_URL) of a delivery, from its id. Only a message's id may contain hyphens. */
export function deliveryIdParts(deliveryId: string): { messageId: string; endpointId: string } {
  const at = deliveryId.lastIndexOf("-");
  return { messageId: deliveryId.slice(0, at), endpointId: deliveryId.slice(at + 1) };
}

/**
 * The message about the end of a job. If the body is too long for a webhook, parts of the output are left out: first the token
 * details, then the text. Both can be read from the job.
 * @param withOutput false to leave out the output
 */
export function jobMessage(job: Job, withOutput = true): WebhookMessage {
  const { webhook: _, ...data } = job;
  const type = `job.${job.state}` as JobWebhookBody["type"];
  const timestamp = new Date((job.ended_at ?? job.created_at) * 1000).toISOString();
  const { text, tool_calls, finish_reason } = data.output;
  const shortened = (output: JobWebhookBody["data"]["output"]) =>
    toJson({ type, timestamp, data: { ...data, output, output_omitted: true } });
  const bodies = withOutput
    ? [
        toJson({ type, timestamp, data }),
        shortened({ text, ...(tool_calls && { tool_calls }), finish_reason }),
      ]
    : [];
  const fits = (body: string) =>
    new TextEncoder().encode(body).length <= LIMITS.webhookBodyBytesMax;
  return {
    id: messageId(job.id),
    type,
    body: bodies.find(fits) ?? shortened({ text: null, finish_reason }),
    jobId: job.id,
  };
}

/** The message about the end of a response: its type and id, as OpenAI sends it. */
export function responseMessage(job: Job): WebhookMessage {
  const id = responseMessageId(job.id);
  const type = responseEvent(job.state, job.output.finish_reason);
  const endedAt = job.ended_at ?? job.created_at;
  const body = toJson({
    id,
    object: "event",
    created_at: Math.floor(endedAt),
    type,
    timestamp: new Date(endedAt * 1000).toISOString(),
    data: { id: responseId(job.id) },
  });
  return { id, type, body, jobId: job.id };
}

function responseEvent(
  state: JobState,
  finishReason: FinishReason | null,
): ResponseWebhookBody["type"] {
  if (state === "cancelled") return "response.cancelled";
  if (state !== "succeeded") return "response.failed";
  return finishReason === "length" ? "response.incomplete" : "response.completed";
}

/** A job that runs, as the messages before its end show it. */
export type RunningJob = Pick<Job, "id" | "model" | "created_at" | "started_at" | "metadata">;

export const runningJob = (record: JobRecord): RunningJob => ({
  id: record.id,
  model: record.generation.model,
  created_at: seconds(record.createdAtMs),
  started_at: seconds(record.startedAtMs),
  metadata: record.metadata,
});

/** The message that a worker has started a job. */
export function startMessage(job: RunningJob): WebhookMessage {
  const timestamp = new Date((job.started_at ?? job.created_at) * 1000).toISOString();
  return runningMessage(startMessageId(job.id), "job.started", timestamp, job);
}

/** The message that a job has so many tokens. */
export function progressMessage(record: JobRecord, completionTokens: number): WebhookMessage {
  const id = `${messageId(record.id)}-progress-${completionTokens}`;
  const tokens = { completion_tokens: completionTokens, max_tokens: record.generation.maxTokens };
  const timestamp = new Date().toISOString();
  return runningMessage(id, "job.progress", timestamp, { ...runningJob(record), ...tokens });
}

function runningMessage(
  id: string,
  type: JobRunningWebhookBody["type"],
  timestamp: string,
  job: RunningJob & Pick<JobRunningWebhookBody["data"], "completion_tokens" | "max_tokens">,
): WebhookMessage {
  const { id: jobId, model, created_at, started_at, metadata, completion_tokens, max_tokens } = job;
  const tokens = { completion_tokens, max_tokens };
  const data = {
    id: jobId,
    object: "job" as const,
    model,
    state: "running" as const,
    created_at,
    started_at,
    ...(completion_tokens !== undefined && tokens),
    metadata,
  };
  return { id, type, body: toJson({ type, timestamp, data }), jobId };
}

const responseMessageId = (jobId: string) => `${messageId(jobId)}-response`;
const startMessageId = (jobId: string) => `${messageId(jobId)}-started`;

/** The ids of the messages about the end of a job. */
export const endMessageIds = (jobId: string) => [messageId(jobId), responseMessageId(jobId)];

/** Whether a message is about this job. The id of another choice of its request begins with the job's, too. */
export function isAboutJob(id: string, jobId: string): boolean {
  const suffix = id.startsWith(messageId(jobId)) ? id.slice(messageId(jobId).length) : null;
  return suffix !== null && /^(?:-response|-started|-progress-\d+)?$/.test(suffix);
}

/** The messages that a job has had, but those of its progress: their ids and types. */
export function messagesOf(
  { id, state, startedAtMs, requestOptions }: JobRecord,
  finishReason: FinishReason | null,
): { readonly id: string; readonly type: string }[] {
  const started = startedAtMs === null ? [] : [{ id: startMessageId(id), type: "job.started" }];
  if (!isTerminal(state)) return started;
  const isResponse = requestOptions.protocol === "responses";
  const response = { id: responseMessageId(id), type: responseEvent(state, finishReason) };
  return [
    ...started,
    { id: messageId(id), type: `job.${state}` },
    ...(isResponse ? [response] : []),
  ];
}

/** The message about the end of a batch. It has the ids of the batch's files. */
export function batchMessage(batch: Batch): WebhookMessage {
  const type = `batch.${batch.status}` as BatchWebhookBody["type"];
  const body = toJson({ type, timestamp: new Date().toISOString(), data: batch });
  return { id: `msg_${batch.id}`, type, body, jobId: null };
}

/** A message to test an endpoint. */
export function testMessage(endpointId: string): WebhookMessage {
  const type = "webhook.test";
  const timestamp = new Date().toISOString();
  const body = toJson({ type, timestamp, data: { endpoint: endpointId } });
  return { id: newId("msg"), type, body, jobId: null };
}

const toJson = (body: WebhookBody) => JSON.stringify(body);
