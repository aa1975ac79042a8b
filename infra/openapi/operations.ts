/** Every call of the API, in the order in which the reference shows them. */
import { BATCH_OPERATIONS } from "./batch-operations.ts";
import {
  deleted,
  HAS_MORE,
  is,
  list,
  object,
  ref,
  STRING,
  type Operation,
  type Reply,
} from "./operation.ts";
import { WEBHOOK_OPERATIONS } from "./webhook-operations.ts";

const MODEL = { model: "atlas-qa" };
const MESSAGES = [{ role: "user", content: "What is the capital of France?" }];
const CHAT = { ...MODEL, messages: MESSAGES };
const READ_JOB = ["JobId"] as const;
const CURSORS = ["LastEventId", "After", "StartingAfter"] as const;
const OK = object({ status: is("ok") });
const job = (description: string, ...headers: string[]): Reply => ({
  description,
  schema: "Job",
  headers,
});
const NOTHING_MORE: Reply = {
  description: "The reader has all that will ever be: an EventSource does not come back.",
};

/** By method and path. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  "POST /v1/jobs": {
    tag: "Jobs",
    summary: "Queue a generation, or a text to score",
    submits: true,
    parameters: ["Prefer"],
    body: {
      JobRequest: { ...CHAT, max_tokens: 16, steering: { alpha: 0.5 } },
      ScoreRequest: { ...CHAT, completion: "Paris" },
    },
    replies: {
      200: job("It ended within the wait, or before.", "Location", "Preference-Applied"),
      202: job("It is queued, or running.", "Location", "Preference-Applied"),
    },
  },
  "GET /v1/jobs/{id}": {
    tag: "Jobs",
    summary: "Read a job",
    description: "An ended job does not change until it is deleted, and may be cached.",
    parameters: [...READ_JOB, "Prefer", "IfNoneMatch"],
    replies: {
      200: job("The job as it is.", "ETag", "Preference-Applied"),
      304: { description: "It is as the caller has it.", headers: ["ETag", "Preference-Applied"] },
    },
  },
  "GET /v1/jobs/{id}/events": {
    tag: "Jobs",
    summary: "Follow a job's events",
    description: "All of them, or those after the one that the reader has, then live to the end.",
    takesTicket: true,
    parameters: [...READ_JOB, ...CURSORS],
    replies: { 200: { description: "Its events.", stream: "JobEvent" }, 204: NOTHING_MORE },
  },
  "POST /v1/jobs/quote": {
    tag: "Jobs",
    summary: "Ask when a job would start",
    description: "Nothing is created, and nothing taken of the key's limits.",
    body: { JobRequest: { model: "atlas-qa", prompt: "The capital of France is" } },
    replies: { 200: { description: "What it would meet now.", schema: "Quote" } },
    errors: [404],
  },
  "POST /v1/jobs/{id}/tickets": {
    tag: "Jobs",
    summary: "Make a URL that needs no key",
    parameters: READ_JOB,
    body: { TicketRequest: { action: "stream" } },
    replies: { 201: { description: "The ticket, told only now.", schema: "Ticket" } },
  },
  "POST /v1/jobs/{id}/cancel": {
    tag: "Jobs",
    summary: "Cancel a job",
    description: "Its text so far is kept. An ended job stays as it is.",
    takesTicket: true,
    parameters: READ_JOB,
    replies: {
      200: {
        description: "The job; with a ticket, only its state.",
        schema: {
          anyOf: [
            ref("Job"),
            object({
              id: STRING,
              object: is("job"),
              state: ref("JobState"),
              cancel_requested: { type: "boolean" },
            }),
          ],
        },
      },
    },
  },
  "DELETE /v1/jobs/{id}": {
    tag: "Jobs",
    summary: "Cancel a job and delete all that is kept of it",
    parameters: READ_JOB,
    replies: { 200: deleted("job") },
  },
  "POST /v1/score": {
    tag: "Jobs",
    summary: "Score a text, token by token, under each model",
    submits: true,
    body: { ScoreRequest: { ...CHAT, completion: "Paris" } },
    replies: { 200: { description: "The score.", schema: "Score" } },
    errors: [409, 504],
  },
  "POST /v1/chat/completions": {
    tag: "OpenAI",
    summary: "Answer a chat",
    submits: true,
    body: { ChatRequest: { ...CHAT, max_tokens: 16 } },
    replies: {
      200: {
        description: "The answer, or its chunks and `[DONE]`.",
        schema: "ChatCompletion",
        stream: "ChatCompletionChunk",
        isDone: true,
      },
    },
    errors: [409, 504],
  },
  "GET /v1/chat/completions/{id}": {
    tag: "OpenAI",
    summary: "The answer of an earlier chat",
    description: "It waits for the end, or streams.",
    parameters: [...READ_JOB, "Stream", ...CURSORS],
    replies: {
      200: {
        description: "The answer, or its chunks and `[DONE]`.",
        schema: "ChatCompletion",
        stream: "ChatCompletionChunk",
        isDone: true,
      },
      204: NOTHING_MORE,
    },
    errors: [409, 504],
  },
  "DELETE /v1/chat/completions/{id}": {
    tag: "OpenAI",
    summary: "Delete the jobs of a chat",
    parameters: READ_JOB,
    replies: { 200: deleted("chat.completion.deleted") },
  },
  "POST /v1/completions": {
    tag: "OpenAI",
    summary: "Complete a prompt",
    submits: true,
    body: { CompletionRequest: { ...MODEL, prompt: "the capital of france", max_tokens: 16 } },
    replies: {
      200: {
        description: "The completion, or its chunks and `[DONE]`.",
        schema: "TextCompletion",
        stream: "TextCompletion",
        isDone: true,
      },
    },
    errors: [409, 504],
  },
  "POST /v1/responses": {
    tag: "OpenAI",
    summary: "Make a response",
    submits: true,
    parameters: ["Prefer"],
    body: { ResponseRequest: { ...MODEL, input: "What is the capital of France?" } },
    replies: {
      200: {
        description: "The response, or its events and `[DONE]`.",
        schema: "ResponseObject",
        stream: "ResponseStreamEvent",
        isDone: true,
        headers: ["Preference-Applied"],
      },
    },
    errors: [404, 409, 504],
  },
  "GET /v1/responses/{id}": {
    tag: "OpenAI",
    summary: "Read a response, or stream its events",
    parameters: [...READ_JOB, "Prefer", "Stream", ...CURSORS],
    replies: {
      200: {
        description: "The response, or its events and `[DONE]`.",
        schema: "ResponseObject",
        stream: "ResponseStreamEvent",
        isDone: true,
        headers: ["Preference-Applied"],
      },
      204: NOTHING_MORE,
    },
  },
  "POST /v1/responses/{id}/cancel": {
    tag: "OpenAI",
    summary: "Cancel a response",
    parameters: READ_JOB,
    replies: { 200: { description: "The response.", schema: "ResponseObject" } },
  },
  "DELETE /v1/responses/{id}": {
    tag: "OpenAI",
    summary: "Cancel a response and delete it",
    parameters: READ_JOB,
    replies: { 200: deleted("response") },
  },
  "GET /v1/responses/{id}/input_items": {
    tag: "OpenAI",
    summary: "What a response went on from",
    parameters: [...READ_JOB, "Limit", "Order", "AfterId"],
    replies: {
      200: {
        description: "A page of it.",
        schema: list("ResponseInputItem", {
          first_id: { type: ["string", "null"] },
          last_id: { type: ["string", "null"] },
          ...HAS_MORE,
        }),
      },
    },
  },
  "GET /v1/models": {
    tag: "OpenAI",
    summary: "The ensembles, with the steering that they allow",
    replies: { 200: { description: "All that the key may use.", schema: list("Model") } },
  },
  "GET /v1/models/{id}": {
    tag: "OpenAI",
    summary: "One ensemble",
    parameters: ["ModelId"],
    replies: { 200: { description: "The ensemble.", schema: "Model" } },
  },
  "POST /v1/keys": {
    tag: "Keys",
    summary: "Make an API key of the tenant",
    body: { KeyRequest: { name: "laptop" } },
    replies: { 201: { description: "The key, told only now.", schema: "NewApiKey" } },
  },
  "GET /v1/keys": {
    tag: "Keys",
    summary: "List the tenant's API keys",
    replies: { 200: { description: "Oldest first.", schema: list("ApiKey") } },
  },
  "DELETE /v1/keys/{id}": {
    tag: "Keys",
    summary: "Revoke an API key",
    parameters: ["KeyId"],
    replies: { 200: deleted("api_key") },
  },
  "POST /v1/keys/{id}/rotate": {
    tag: "Keys",
    summary: "Give an API key a new secret",
    parameters: ["KeyId"],
    body: { RotateRequest: { overlap: 3600 } },
    replies: { 200: { description: "The new key, told only now.", schema: "NewApiKey" } },
  },
  ...BATCH_OPERATIONS,
  ...WEBHOOK_OPERATIONS,
  "GET /healthz": {
    tag: "Service",
    summary: "Whether the edge is alive",
    isPublic: true,
    replies: { 200: { description: "It is.", schema: OK } },
  },
  "GET /readyz": {
    tag: "Service",
    summary: "Whether Redis answers",
    isPublic: true,
    replies: { 200: { description: "It does.", schema: OK } },
    errors: [503],
  },
  "GET /openapi.json": {
    tag: "Service",
    summary: "This document",
    isPublic: true,
    replies: { 200: { description: "OpenAPI 3.1.", schema: { type: "object" } } },
  },
  "GET /docs": {
    tag: "Service",
    summary: "This document to read",
    isPublic: true,
    replies: { 200: { description: "A page.", schema: STRING, mediaType: "text/html" } },
  },
};
