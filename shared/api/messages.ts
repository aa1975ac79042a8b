/** Anthropic's Messages API, as far as a text model can serve it: the request, the message, the events of its stream, errors. */
import * as v from "valibot";
import { generationFields, retentionFields } from "./generation.ts";
import { REPLY_MEMBERS, textPart } from "./input.ts";
import { LIMITS } from "./limits.ts";
import { messageToolFields, ToolResultInput, ToolUseBlock, ToolUseInput } from "./message-tools.ts";
import { requestObject } from "./request-object.ts";
import { jsonSchemaFields } from "./response-formats.ts";
import { count, field, integer, nonEmpty, optional, text, type Reply } from "./schema.ts";

const textBlock = textPart("text", "The type of this block: `text`.");

/** Thinking of an earlier answer, from another server. Any members are allowed: it is not used. */
const thinkingBlock = (type: "thinking" | "redacted_thinking") =>
  v.looseObject({
    type: field(
      v.literal(type),
      "Accepted so that answers of other servers can be sent. It is not used.",
    ),
  });

const block = v.variant("type", [
  textBlock,
  thinkingBlock("thinking"),
  thinkingBlock("redacted_thinking"),
  ToolUseInput,
  ToolResultInput,
]);
export type InputBlock = v.InferOutput<typeof block>;

const message = requestObject(
  {
    role: field(v.picklist(["user", "assistant", "system"]), "The author of the message.", {
      examples: ["user"],
    }),
    content: field(
      v.union(
        [text(LIMITS.promptCharsMax), v.pipe(v.array(block), v.maxLength(LIMITS.messagesMax))],
        "Expected a string or an array of text blocks",
      ),
      "The message: a string, or text blocks, which are joined by line breaks.",
      { examples: ["What is the capital of France?"] },
    ),
  },
  REPLY_MEMBERS,
);
export type InputMessage = v.InferOutput<typeof message>;

const {
  stop: _,
  response_format: __,
  metadata: ___,
  user: ____,
  ...sharedFields
} = generationFields;

/** The fields of a conversation. */
const conversationFields = {
  model: sharedFields.model,
  messages: field(
    v.pipe(
      v.array(message),
      v.minLength(1),
      v.maxLength(LIMITS.messagesMax),
      v.check(
        (messages) => messages.at(-1)?.role !== "assistant",
        "Expected messages of which the last is not the assistant's: an answer cannot begin with given words",
      ),
    ),
    "The conversation to continue, the oldest message first.",
    { examples: [[{ role: "user", content: "What is the capital of France?" }]] },
  ),
  system: optional(
    v.union(
      [text(LIMITS.promptCharsMax), v.pipe(v.array(textBlock), v.maxLength(LIMITS.messagesMax))],
      "Expected a string or an array of text blocks",
    ),
    "The system message, before all others.",
    { examples: ["Answer in one sentence."] },
  ),
};

/** Hints about caching, of the whole request. */
const IGNORED: ReadonlySet<string> = new Set(["cache_control"]);

/** `POST /v1/messages` */
export const MessageRequest = requestObject(
  {
    ...sharedFields,
    ...retentionFields,
    ...conversationFields,
    max_tokens: optional(
      integer(1, LIMITS.maxTokensMax),
      "The most tokens to generate. The model's context length may end the output earlier. Without it, the output may fill the context.",
      { examples: [256] },
    ),
    ...messageToolFields,
    stop_sequences: optional(
      v.pipe(v.array(nonEmpty(LIMITS.stopCharsMax)), v.maxLength(LIMITS.stopsMax)),
      "Strings that end the output, which does not contain them.",
      { examples: [["\n\n"]] },
    ),
    stream: optional(v.boolean(), "Whether to reply with a stream of server-sent events.", {
      default: false,
    }),
    output_config: optional(
      requestObject({
        format: optional(
          requestObject({
            type: field(v.literal("json_schema"), "The type of this format: `json_schema`."),
            schema: jsonSchemaFields.schema,
          }),
          "The format of the output. The default is any text.",
        ),
      }),
      "Options of the output.",
    ),
    metadata: optional(
      requestObject({
        user_id: optional(text(LIMITS.messageUserCharsMax), "An id of your own for the end user."),
      }),
      "About the request. It does not change the output.",
    ),
  },
  IGNORED,
);
export type MessageRequest = v.InferOutput<typeof MessageRequest>;

const StopReason = v.picklist([
  "end_turn",
  "max_tokens",
  "stop_sequence",
  "model_context_window_exceeded",
  "tool_use",
]);
export type StopReason = v.InferOutput<typeof StopReason>;

const stopFields = {
  stop_reason: field(
    v.nullable(StopReason),
    "Why the output ended: `end_turn` at an end-of-sequence token or the end of the format, `stop_sequence`, `tool_use` after calls, `max_tokens`, or `model_context_window_exceeded` at the end of the context. Null while it has not.",
  ),
  stop_sequence: field(
    v.nullable(v.string()),
    "The stop sequence that ended the output. Null if none did.",
  ),
};

const MessageUsage = v.strictObject({
  input_tokens: field(
    count,
    "Tokens of the prompt that were not in the cache. 0 until the message has ended.",
  ),
  cache_creation_input_tokens: field(count, "Always 0: writing to the cache costs nothing."),
  cache_read_input_tokens: field(
    count,
    "Tokens at the prompt's beginning that the worker still had in its KV cache.",
  ),
  output_tokens: field(count, "Generated tokens."),
  service_tier: field(v.literal("standard"), "Always `standard`."),
});
export type MessageUsage = Reply<typeof MessageUsage>;

const TextBlock = v.strictObject({
  type: field(v.literal("text"), "The type of this block: `text`."),
  text: field(v.string(), "The generated text.", { examples: ["The capital of France is Paris."] }),
  citations: field(v.null(), "Always null."),
});

/** A job as Anthropic's Messages API shows it. */
export const MessageObject = v.strictObject({
  id: field(v.string(), "The message's id: `msg_X` is the output of the job `job_X`."),
  type: field(v.literal("message"), "The type of this object: `message`."),
  role: field(v.literal("assistant"), "Always `assistant`."),
  model: field(v.string(), "The model that generates.", { examples: ["atlas-qa"] }),
  content: field(
    v.array(v.variant("type", [TextBlock, ToolUseBlock])),
    "The output: a block with its text, if it has one, then a block for each call.",
  ),
  ...stopFields,
  usage: field(MessageUsage, "The tokens that the message used."),
});
export type MessageObject = Reply<typeof MessageObject>;

/** `POST /v1/messages/count_tokens` */
export const MessageTokens = v.strictObject({
  input_tokens: field(count, "Tokens of the base's prompt.", { examples: [24] }),
});

/** One event of a message's stream. Its other members depend on its type, as in Anthropic's API. */
export const MessageStreamEvent = v.looseObject({
  type: field(v.string(), "The event's type, as in Anthropic's API.", {
    examples: ["content_block_delta"],
  }),
});
export type MessageStreamEvent = Reply<typeof MessageStreamEvent>;

/** The body of an error reply of these routes, and of an event of the type `error`. */
export const MessageError = v.strictObject({
  type: field(v.literal("error"), "The type of this object: `error`."),
  error: field(
    v.strictObject({
      type: field(v.string(), "The error's type in Anthropic's API.", {
        examples: ["invalid_request_error"],
      }),
      message: field(v.string(), "The error in one sentence, for people."),
      code: field(v.string(), "The error's code, as in other replies.", {
        examples: ["invalid_request"],
      }),
      param: field(v.nullable(v.string()), "The request's field that is wrong, or null."),
    }),
    "The error.",
  ),
  request_id: field(v.string(), "The id of the request."),
});
export type MessageError = Reply<typeof MessageError>;
