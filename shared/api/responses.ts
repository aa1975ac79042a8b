/**
 * The Responses API, as far as a text model can serve it: the request, the response and the events of its stream. Field names
 * are OpenAI's; fields that its API lacks (steering, webhook, deadline, more samplers) have our names.
 */
import * as v from "valibot";
import { generationFields, Metadata, retentionFields, topLogprobs } from "./generation.ts";
import { baseCalls, Speculation, JobSteering, JobError } from "./job-parts.ts";
import { LIMITS } from "./limits.ts";
import { deletionSchema } from "./lists.ts";
import { requestObject } from "./request-object.ts";
import { InputItem, OutputItem } from "./response-items.ts";
import { TextFormat } from "./response-formats.ts";
import { structuredOutputFields } from "./structured-outputs.ts";
import {
  count,
  EXAMPLE_TIME,
  field,
  integer,
  nonEmpty,
  optional,
  text,
  type Reply,
} from "./schema.ts";
import { includeObfuscation } from "./stream-options.ts";
import { TokenShift } from "./token-details.ts";
import { responseToolFields, ResponseToolChoice, ShownResponseTool } from "./tools.ts";

/** Details that a request can ask for. All but the first are those of items that no response here has. */
const LOGPROBS_DETAIL = "message.output_text.logprobs";
const INCLUDABLE = [
  LOGPROBS_DETAIL,
  "code_interpreter_call.outputs",
  "computer_call_output.output.image_url",
  "file_search_call.results",
  "message.input_image.image_url",
  "reasoning.encrypted_content",
  "web_search_call.action.sources",
  "web_search_call.results",
] as const;

export const Include = v.array(v.picklist(INCLUDABLE));

/** Whether a response reports log-probabilities. */
export const includesLogprobs = ({
  include,
}: {
  readonly include?: readonly string[] | null | undefined;
}) => include?.includes(LOGPROBS_DETAIL) ?? false;

const { max_tokens: _, response_format: __, ...sharedFields } = generationFields;

/** `POST /v1/responses` */
export const ResponseRequest = v.pipe(
  requestObject({
    ...sharedFields,
    ...retentionFields,
    ...structuredOutputFields,
    ...responseToolFields,
    input: field(
      v.union(
        [
          text(LIMITS.promptCharsMax),
          v.pipe(v.array(InputItem), v.minLength(1), v.maxLength(LIMITS.messagesMax)),
        ],
        "Expected a string or a non-empty array of messages",
      ),
      "The user's text, or the messages to continue, the oldest first.",
      { examples: ["What is the capital of France?"] },
    ),
    instructions: optional(
      text(LIMITS.promptCharsMax),
      "A system message before all others. It applies to this response only: a response that continues this one does not inherit it.",
      { examples: ["Answer in one sentence."] },
    ),
    previous_response_id: optional(
      nonEmpty(LIMITS.modelCharsMax),
      "The id of an ended job, of any protocol, whose conversation the input continues.",
    ),
    max_output_tokens: optional(
      integer(1, LIMITS.maxTokensMax),
      "The most tokens to generate. The model's context length may end the output earlier. Without it, the output may fill the context.",
    ),
    background: optional(
      v.boolean(),
      "Whether to reply at once with the queued response, which is read later with `GET /v1/responses/{id}`.",
      { default: false },
    ),
    stream: optional(v.boolean(), "Whether to reply with a stream of server-sent events.", {
      default: false,
    }),
    stream_options: optional(
      requestObject({ include_obfuscation: includeObfuscation }),
      "Options of a streamed reply.",
    ),
    include: optional(
      Include,
      "Details to report with the text: `message.output_text.logprobs` is the log-probability of every generated token. The others are accepted: they are details of items that no response here has.",
      { examples: [["message.output_text.logprobs"]] },
    ),
    top_logprobs: optional(
      topLogprobs,
      "How many of the likeliest tokens to report at each position. Above 0 it needs `include`.",
      { default: 0 },
    ),
    text: optional(
      requestObject({
        format: optional(TextFormat, "The format of the output. The default is any text."),
      }),
      "Options of the output text.",
    ),
  }),
  v.forward(
    v.check(
      (request) => !request.top_logprobs || includesLogprobs(request),
      "Expected absent unless include is set",
    ),
    ["top_logprobs"],
  ),
);
export type ResponseRequest = v.InferOutput<typeof ResponseRequest>;

export const ResponseStatus = v.pipe(
  v.picklist(["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]),
  v.description(
    "First `queued` and `in_progress`. At the end `completed`, `incomplete` (the token limit was reached), `failed` (also if the job expired) or `cancelled`.",
  ),
);
export type ResponseStatus = v.InferOutput<typeof ResponseStatus>;

export const ResponseUsage = v.strictObject({
  input_tokens: field(count, "Tokens of the whole conversation before the output.", {
    examples: [24],
  }),
  input_tokens_details: field(
    v.strictObject({
      cached_tokens: field(
        count,
        "Tokens at the input's beginning that the worker still had in its KV cache from an earlier prompt of the same tenant.",
      ),
      cache_write_tokens: field(count, "Always 0: writing to the cache costs nothing."),
    }),
    "Details of the input's tokens.",
  ),
  output_tokens: field(count, "Generated tokens.", { examples: [12] }),
  output_tokens_details: field(
    v.strictObject({ reasoning_tokens: field(count, "Always 0: there is no separate reasoning.") }),
    "Details of the generated tokens.",
  ),
  total_tokens: field(count, "Tokens of input and output.", { examples: [36] }),
  speculation: field(
    Speculation,
    "How many tokens speculative decoding drafts, and how many of them are accepted.",
  ),
  base_calls: baseCalls,
});
export type ResponseUsage = Reply<typeof ResponseUsage>;

/** A job as the Responses API shows it. */
export const ResponseObject = v.strictObject({
  id: field(v.string(), "The response's id: `resp_X` is the job `job_X`.", {
    examples: ["resp_0198c2f4e5b07a31"],
  }),
  object: field(v.literal("response"), "The type of this object: `response`."),
  created_at: field(count, "When the response was requested, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  completed_at: field(
    v.nullable(count),
    "When the response was completed, as a Unix time in seconds. Null unless `status` is `completed`.",
    { examples: [EXAMPLE_TIME + 1] },
  ),
  status: field(ResponseStatus, "The response's state.", { examples: ["completed"] }),
  background: field(v.boolean(), "Whether the request sets `background`."),
  error: field(v.nullable(JobError), "Why the response failed. Null if it did not."),
  incomplete_details: field(
    v.nullable(
      v.strictObject({
        reason: field(
          v.literal("max_output_tokens"),
          "`max_output_tokens`: the response reached its token limit.",
        ),
      }),
    ),
    "Why the response is incomplete. Null if it is not.",
  ),
  instructions: field(v.nullable(v.string()), "The instructions of the request. Null without any."),
  previous_response_id: field(
    v.nullable(v.string()),
    "The response whose conversation this one continues. Null if it continues none.",
  ),
  model: field(v.string(), "The model that generates.", { examples: ["atlas-qa"] }),
  output: field(
    v.array(OutputItem),
    "The generated message, and the calls of functions after it. Empty while there is no text, unless the response is completed. A response with calls has a message only if there is a text before them.",
  ),
  trace: field(
    v.exactOptional(v.array(TokenShift)),
    "The steering trace of the tokens of calls: one entry for each token, in order. Those of the message are in its part. Present only if the request sets `steering.trace` and there are such tokens. If a message comes before the calls, the tokens are told apart only with log-probabilities; without them the message has all.",
  ),
  usage: field(
    v.nullable(ResponseUsage),
    "The tokens that the response used. Null until the response has ended.",
  ),
  temperature: field(v.number(), "The temperature of sampling."),
  top_p: field(v.number(), "The probability mass of the likeliest tokens that sampling keeps."),
  presence_penalty: field(v.number(), "The presence penalty."),
  frequency_penalty: field(v.number(), "The frequency penalty."),
  top_logprobs: field(count, "How many of the likeliest tokens are reported at each position."),
  max_output_tokens: field(count, "The most tokens to generate."),
  seed: field(count, "The seed of random sampling: the request's, or a random one."),
  steering: field(JobSteering, "How the response is steered."),
  store: field(v.boolean(), "Whether the ended response is kept for the usual time."),
  metadata: field(Metadata, "The metadata of the request."),
  user: field(v.nullable(v.string()), "The `user` of the request, or null."),
  safety_identifier: field(
    v.nullable(v.string()),
    "The `safety_identifier` of the request, or null.",
  ),
  prompt_cache_key: field(
    v.nullable(v.string()),
    "The `prompt_cache_key` of the request, or null.",
  ),
  text: field(
    v.strictObject({ format: field(TextFormat, "The format of the output.") }),
    "Options of the output text.",
  ),
  truncation: field(
    v.literal("disabled"),
    "Always `disabled`: no message of a conversation is left out.",
  ),
  tools: field(v.array(ShownResponseTool), "The functions that the model may call."),
  tool_choice: field(ResponseToolChoice, "Whether the model may or must call a function."),
  parallel_tool_calls: field(v.boolean(), "Whether the output may have several calls."),
  max_tool_calls: field(v.null(), "Always null."),
  reasoning: field(v.null(), "Always null."),
  service_tier: field(v.literal("default"), "Always `default`."),
});
export type ResponseObject = Reply<typeof ResponseObject>;

export const ResponseDeletion = deletionSchema("response");

/** One event of a response's stream. Its other members depend on its type, as in OpenAI's API. */
export const ResponseStreamEvent = v.looseObject({
  type: field(v.string(), "The event's type, as in OpenAI's API.", {
    examples: ["response.output_text.delta"],
  }),
  sequence_number: field(count, "The event's number. It counts from 0 without gaps."),
});
export type ResponseStreamEvent = Reply<typeof ResponseStreamEvent>;
