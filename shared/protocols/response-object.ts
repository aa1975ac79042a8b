/** A job as the Responses API shows it (`object: "response"`), with every member that its clients and Open Responses expect. */
import type { Job } from "../api/jobs.ts";
import type { Usage } from "../api/job-parts.ts";
import type {
  OutputItem,
  OutputMessage,
  OutputText,
  ResponseItemStatus,
} from "../api/response-items.ts";
import type { ResponseObject, ResponseStatus, ResponseUsage } from "../api/responses.ts";
import type { TokenDetails, TokenShift } from "../api/token-details.ts";
import { messageId, responseId } from "../jobs/ids.ts";
import type { RequestOptions } from "../jobs/record.ts";
import type { AnsweredJob } from "./chat-replies.ts";
import { parseOutput } from "../tools/parser.ts";
import { jobSteering } from "./job-reply.ts";
import { toChatLogprobs } from "./logprobs.ts";
import { beforeCalls } from "./message-tokens.ts";
import { toTextFormat } from "./response-format.ts";
import { requestInstructions } from "./response-input.ts";
import { callItem, echoedTools } from "./response-tools.ts";

/** The state and output of a job: now, or after some event of its log. */
export type JobSnapshot = Pick<Job, "state" | "ended_at" | "output" | "usage" | "error">;

export const NOT_STARTED: JobSnapshot = {
  state: "queued",
  ended_at: null,
  output: { text: "", finish_reason: null },
  usage: null,
  error: null,
};

/** The status of a response, from the state of its job. */
export function responseStatus({ state, output }: JobSnapshot): ResponseStatus {
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

/** @param message the output message, if the caller has it already: the details of its tokens can be large */
export function toResponse(
  job: AnsweredJob,
  snapshot: JobSnapshot,
  message?: OutputMessage,
): ResponseObject {
  const { generation, requestOptions } = job;
  const status = responseStatus(snapshot);
  const { items, callTrace } = outputOf(job, snapshot, message);
  return {
    id: responseId(job.id),
    object: "response",
    created_at: Math.floor(job.createdAtMs / 1000),
    completed_at: status === "completed" ? Math.floor(snapshot.ended_at ?? 0) : null,
    status,
    error: snapshot.error,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    instructions: requestInstructions(job),
    model: generation.model,
    output: items,
    ...(callTrace && { trace: callTrace }),
    usage: snapshot.usage && toResponseUsage(snapshot.usage),
    temperature: generation.temperature,
    top_p: generation.topP,
    presence_penalty: generation.presencePenalty,
    frequency_penalty: generation.frequencyPenalty,
    top_logprobs: generation.logprobs ?? 0,
    max_output_tokens: generation.maxTokens,
    seed: generation.seed,
    steering: jobSteering(generation),
    metadata: job.metadata,
    ...echoedFields(requestOptions),
    ...echoedTools(generation),
    ...CONSTANT_FIELDS,
  };
}

function echoedFields(options: RequestOptions) {
  return {
    background: options.background ?? false,
    store: options.store ?? true,
    user: options.user ?? null,
    safety_identifier: options.safetyIdentifier ?? null,
    prompt_cache_key: options.promptCacheKey ?? null,
    text: { format: toTextFormat(options.format ?? { type: "text" }) },
    previous_response_id: options.previous === undefined ? null : responseId(options.previous),
  };
}

/** Fields that are the same for every text model. */
const CONSTANT_FIELDS = {
  truncation: "disabled",
  max_tool_calls: null,
  reasoning: null,
  service_tier: "default",
} as const;

/** The message that a response generates, unless it has only calls; its calls; and the trace of the tokens of calls. */
function outputOf(
  { id, generation }: AnsweredJob,
  snapshot: JobSnapshot,
  message?: OutputMessage,
): { readonly items: OutputItem[]; readonly callTrace?: TokenShift[] } {
  const { text: output, ...details } = snapshot.output;
  const status = responseStatus(snapshot);
  if (output === "" && status !== "completed") return { items: [] };
  const { text, calls } = parseOutput(generation.tools, output);
  const last = itemEndStatus(status);
  const textStatus = calls.length === 0 ? last : "completed";
  const hasMessage = text !== "" || calls.length === 0;
  const ofText = calls.length === 0 ? details : beforeCalls(details, text);
  const messages = hasMessage
    ? [message ?? messageItem(id, textStatus, toOutputText({ text, ...ofText }))]
    : [];
  const items = calls.map((call, i) =>
    callItem(id, i, call, i === calls.length - 1 ? last : "completed"),
  );
  const callTrace = details.trace?.slice(hasMessage ? ofText.trace?.length : 0) ?? [];
  return { items: [...messages, ...items], ...(callTrace.length > 0 && { callTrace }) };
}

/** The status of the last item of a response. */
export function itemEndStatus(status: ResponseStatus): ResponseItemStatus {
  return status === "in_progress" || status === "completed" ? status : "incomplete";
}

export function messageItem(
  jobId: string,
  status: ResponseItemStatus,
  part: OutputText,
): OutputMessage {
  return { id: messageId(jobId), type: "message", role: "assistant", status, content: [part] };
}

/** The text of a message, with the details of its tokens. */
export function toOutputText({
  text,
  ...details
}: TokenDetails & { readonly text: string }): OutputText {
  return { type: "output_text", text, annotations: [], ...outputTextDetails(details) };
}

/** Details of the tokens of a text or a delta. `logprobs` is an empty array if the request does not ask for them. */
export function outputTextDetails(details: TokenDetails): Pick<OutputText, "logprobs" | "trace"> {
  const { trace } = details;
  return { logprobs: toChatLogprobs(details)?.content ?? [], ...(trace && { trace }) };
}

function toResponseUsage(usage: Usage): ResponseUsage {
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
    ...(usage.base_calls !== undefined && { base_calls: usage.base_calls }),
  };
}
