/** A job as the Responses API shows it: `object: "response"`, with every member that its clients and Open Responses expect. */
import type { Job, Usage } from "./contract.ts";
import type { Asked } from "./job.ts";
import { steeringOf } from "./job-store.ts";
import type { TokenReports } from "./reports.ts";
import { messageId, responseId } from "./job-names.ts";
import { chatLogprobs } from "./openai-logprobs.ts";
import type { AnsweredJob } from "./openai-shapes.ts";
import { toTextFormat } from "./response-format.ts";
import { instructionsOf } from "./response-input.ts";

/** How far a job is: now, or as of some event of its log. */
export type Standing = Pick<Job, "state" | "ended_at" | "output" | "usage" | "error">;

export const NOT_STARTED: Standing = {
  state: "queued",
  ended_at: null,
  output: { text: "", finish_reason: null },
  usage: null,
  error: null,
};

export type ResponseStatus =
  | "queued"
  | "in_progress"
  | "completed"
  | "incomplete"
  | "failed"
  | "cancelled";

export function statusOf({ state, output }: Standing): ResponseStatus {
  switch (state) {
    case "queued":
      return "queued";
    case "running":
      return "in_progress";
    case "succeeded":
      return output.finish_reason === "length" ? "incomplete" : "completed";
    case "cancelled":
      return "cancelled";
    case "failed":
    case "expired":
      return "failed";
  }
}

/** @param item its output item, where that has been made already: reports can be large */
export function toResponse(
  job: AnsweredJob,
  standing: Standing,
  item: object = toItem(job, standing),
): object {
  const { generation, asked } = job;
  const status = statusOf(standing);
  return {
    id: responseId(job.id),
    object: "response",
    created_at: Math.floor(job.createdAtMs / 1000),
    completed_at: status === "completed" ? Math.floor(standing.ended_at ?? 0) : null,
    status,
    error: standing.error,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    instructions: instructionsOf(job),
    model: generation.model,
    output: standing.output.text === "" && status !== "completed" ? [] : [item],
    usage: standing.usage && toUsage(standing.usage),
    temperature: generation.temperature,
    top_p: generation.topP,
    presence_penalty: generation.presencePenalty,
    frequency_penalty: generation.frequencyPenalty,
    top_logprobs: generation.logprobs ?? 0,
    max_output_tokens: generation.maxTokens,
    seed: generation.seed,
    steering: steeringOf(generation),
    metadata: job.metadata,
    ...saidBack(asked),
    ...FIXED,
  };
}

function saidBack(asked: Asked): object {
  return {
    background: asked.background ?? false,
    store: asked.store ?? true,
    user: asked.user ?? null,
    safety_identifier: asked.safetyIdentifier ?? null,
    prompt_cache_key: asked.promptCacheKey ?? null,
    text: { format: toTextFormat(asked.format ?? { type: "text" }) },
    previous_response_id: asked.previous === undefined ? null : responseId(asked.previous),
  };
}

/** What never differs for a text model without tools. */
const FIXED = {
  truncation: "disabled",
  tools: [],
  tool_choice: "auto",
  parallel_tool_calls: true,
  max_tool_calls: null,
  reasoning: null,
  service_tier: "default",
};

/** The one item that a response puts out. */
export function toItem(
  { id }: AnsweredJob,
  standing: Standing,
  part: object = toPart(standing.output.text, toldOf(standing.output)),
): object {
  const status = statusOf(standing);
  const ended = status === "completed" ? status : "incomplete";
  return {
    id: messageId(id),
    type: "message",
    role: "assistant",
    status: status === "in_progress" ? status : ended,
    content: [part],
  };
}

export function toPart(text: string, told: object): object {
  return { type: "output_text", text, annotations: [], ...told };
}

/** What is told of tokens; the log-probabilities of a part, or of a delta, are there even if none were asked for. */
export function toldOf(reports: TokenReports): object {
  const { trace } = reports;
  return { logprobs: chatLogprobs(reports)?.content ?? [], ...(trace && { trace }) };
}

function toUsage(usage: Usage): object {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: {
      cached_tokens: usage.prompt_tokens_details.cached_tokens,
      cache_write_tokens: 0,
    },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.total_tokens,
    speculation: usage.speculation,
  };
}
