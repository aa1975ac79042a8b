/**
 * The wire contract of `POST /v1/responses`: what a text model can do of it. OpenAI's names, and ours (steering,
 * webhook, deadline, more samplers) for what it has no word.
 */
import * as v from "valibot";
import {
  generation,
  integer,
  jsonSchema,
  nonEmpty,
  plainFormats,
  text,
  topLogprobs,
} from "./contract.ts";
import { LIMITS } from "./limits.ts";
import { keeping } from "./openai.ts";

/** A field that clients send empty; anything in it is not served. */
const unsupported = v.nullish(v.never());

const part = v.variant("type", [
  v.strictObject({ type: v.literal("input_text"), text: text(LIMITS.promptCharsMax) }),
  // As replies have it, so that an output may be sent back as it came: what it tells beside the text is not read.
  v.object({ type: v.literal("output_text"), text: text(LIMITS.promptCharsMax) }),
]);

const item = v.strictObject({
  type: v.nullish(v.literal("message")),
  role: v.picklist(["system", "developer", "user", "assistant"]),
  content: v.union(
    [text(LIMITS.promptCharsMax), v.pipe(v.array(part), v.maxLength(LIMITS.messagesMax))],
    "Expected a string or an array of text parts",
  ),
  /** As replies have them. */
  id: v.nullish(text(LIMITS.modelCharsMax)),
  status: v.nullish(text(LIMITS.modelCharsMax)),
  phase: v.nullish(text(LIMITS.modelCharsMax)),
});
export type InputItem = v.InferOutput<typeof item>;

/** `response_format` as this protocol spells it. */
const format = v.variant("type", [
  ...plainFormats,
  v.strictObject({ type: v.literal("json_schema"), ...jsonSchema }),
]);
export type TextFormat = v.InferOutput<typeof format>;

const { max_tokens: _, response_format: __, ...sampling } = generation;

export const ResponseRequest = v.pipe(
  v.strictObject({
    ...sampling,
    ...keeping,
    input: v.union(
      [
        text(LIMITS.promptCharsMax),
        v.pipe(v.array(item), v.minLength(1), v.maxLength(LIMITS.messagesMax)),
      ],
      "Expected a string or a non-empty array of messages",
    ),
    /** A message before all others, of this response alone: the next one does not inherit it. */
    instructions: v.nullish(text(LIMITS.promptCharsMax)),
    /** An ended job, of whichever protocol, whose conversation the input goes on with. */
    previous_response_id: v.nullish(nonEmpty(LIMITS.modelCharsMax)),
    max_output_tokens: v.nullish(integer(1, LIMITS.maxTokensMax)),
    background: v.nullish(v.boolean()),
    stream: v.nullish(v.boolean()),
    stream_options: v.nullish(v.strictObject({ include_obfuscation: v.nullish(v.literal(false)) })),
    include: v.nullish(v.array(v.literal("message.output_text.logprobs"))),
    top_logprobs: topLogprobs,
    /** Nothing is ever left out of a conversation: one that does not fit fails. */
    truncation: v.nullish(v.literal("disabled")),
    text: v.nullish(v.strictObject({ format: v.nullish(format), verbosity: unsupported })),
    tools: v.nullish(v.array(v.never())),
    tool_choice: v.nullish(v.picklist(["none", "auto"])),
    parallel_tool_calls: v.nullish(v.boolean()),
    max_tool_calls: unsupported,
    reasoning: unsupported,
    prompt: unsupported,
    conversation: unsupported,
    service_tier: v.nullish(v.picklist(["auto", "default"])),
  }),
  v.forward(
    v.check(
      ({ include, top_logprobs }) => !top_logprobs || (include?.length ?? 0) > 0,
      "Expected absent where include does not ask for logprobs",
    ),
    ["top_logprobs"],
  ),
);
export type ResponseRequest = v.InferOutput<typeof ResponseRequest>;
