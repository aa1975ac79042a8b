/** Chats and completions as the OpenAI API has them: requests, whole replies and chunks of streamed ones. */
import * as v from "valibot";
import { generationFields, Metadata, retentionFields, topLogprobs } from "./generation.ts";
import { Messages, Prompt, PromptTokens } from "./input.ts";
import { FinishReason, Usage } from "./job-parts.ts";
import { LIMITS } from "./limits.ts";
import { deletionSchema, pageSchema } from "./lists.ts";
import { requestObject } from "./request-object.ts";
import { count, EXAMPLE_TIME, field, integer, optional, text, type Reply } from "./schema.ts";
import { includeObfuscation, obfuscation } from "./stream-options.ts";
import { promptLogprobsField } from "./prompt-logprobs.ts";
import { structuredOutputFields } from "./structured-outputs.ts";
import { templateFields } from "./template-fields.ts";
import { TokenShift } from "./token-details.ts";
import { chatToolFields, ChatToolCall, ChatToolCallDelta } from "./tools.ts";

/** How the reply is sent, and how many choices it has. */
const replyFields = {
  stream: optional(v.boolean(), "Whether to send the reply in chunks, as server-sent events.", {
    default: false,
  }),
  stream_options: optional(
    requestObject({
      include_usage: optional(
        v.boolean(),
        "Whether the stream ends with a chunk that has the `usage` of the request and no choices.",
        { default: false },
      ),
      include_obfuscation: includeObfuscation,
    }),
    "Options of a streamed reply.",
  ),
  n: optional(
    integer(1, LIMITS.choicesMax),
    `Choices for each prompt. Each choice is a separate job. The k-th choice, counted from 0, is generated with the seed \`seed\` + k. All prompts together have at most ${LIMITS.jobsPerRequestMax} choices, and ${LIMITS.choicesMax} in a streamed reply.`,
    { default: 1 },
  ),
};

const promptLogprobs = optional(
  topLogprobs,
  "Reports the log-probability of every token of the prompt, and this many of the likeliest tokens at each position, as `prompt_logprobs`. It needs `stream: false`. The default is none.",
  { examples: [0] },
);

/** `POST /v1/chat/completions` */
export const ChatRequest = v.pipe(
  requestObject({
    ...generationFields,
    ...replyFields,
    ...retentionFields,
    ...structuredOutputFields,
    ...chatToolFields,
    ...templateFields,
    max_tokens: optional(
      integer(1, LIMITS.maxTokensMax),
      "The most tokens to generate. The model's context length may end the output earlier.",
    ),
    messages: field(Messages, "The conversation to continue, the oldest message first.", {
      examples: [[{ role: "user", content: "What is the capital of France?" }]],
    }),
    max_completion_tokens: optional(
      integer(1, LIMITS.maxTokensMax),
      "The most tokens to generate, under OpenAI's newer name. It has precedence over `max_tokens`. Without both, the output may fill the model's context.",
    ),
    logprobs: optional(
      v.boolean(),
      "Whether to report the log-probability of every generated token.",
      { default: false },
    ),
    top_logprobs: optional(
      topLogprobs,
      "How many of the likeliest tokens to report at each position. Above 0 it needs `logprobs: true`.",
      { default: 0 },
    ),
    prompt_logprobs: promptLogprobs,
  }),
  v.forward(
    v.check(
      ({ logprobs, top_logprobs }) => logprobs === true || !top_logprobs,
      "Expected true if top_logprobs is set",
    ),
    ["logprobs"],
  ),
);
export type ChatRequest = v.InferOutput<typeof ChatRequest>;

const prompts = v.union(
  [
    text(LIMITS.promptCharsMax),
    PromptTokens,
    v.pipe(v.array(Prompt), v.minLength(1), v.maxLength(LIMITS.jobsPerRequestMax)),
  ],
  `Expected a string, a non-empty array of token ids, or 1 to ${LIMITS.jobsPerRequestMax} of these`,
);

/** `POST /v1/completions` */
export const CompletionRequest = requestObject({
  ...generationFields,
  ...replyFields,
  ...structuredOutputFields,
  prompt: field(
    prompts,
    `The text or the token ids to continue, or up to ${LIMITS.jobsPerRequestMax} of these, each with its own choices.`,
    { examples: ["The capital of France is"] },
  ),
  logprobs: optional(
    topLogprobs,
    "Reports the log-probability of every generated token, and this many of the likeliest tokens at each position. The default is none.",
    { examples: [2] },
  ),
  max_tokens: optional(
    integer(0, LIMITS.maxTokensMax),
    "The most tokens to generate. 0 generates none, which with `echo` and `logprobs` scores the prompt.",
    { default: LIMITS.maxTokensDefault },
  ),
  echo: optional(
    v.boolean(),
    "Whether the text begins with the prompt. With `logprobs`, the prompt's tokens have log-probabilities too.",
    { default: false },
  ),
  prompt_logprobs: promptLogprobs,
  best_of: optional(v.literal(1), "Accepted for compatibility. Only 1 is supported.", {
    default: 1,
  }),
  suffix: optional(
    v.literal(""),
    "Accepted for compatibility. Only the empty string is supported.",
    {
      default: "",
    },
  ),
});
export type CompletionRequest = v.InferOutput<typeof CompletionRequest>;

const created = field(count, "When the (first) job was submitted, as a Unix time in seconds.", {
  examples: [EXAMPLE_TIME],
});
const model = field(v.string(), "The model that generates.", { examples: ["atlas-qa"] });
const finishReason = field(
  v.nullable(FinishReason),
  "Why generation ended. Null in chunks before the last one of the choice.",
);
/** OpenAI reports refusals apart from the text. */
const REFUSAL = "Always null: refusals of the model are part of the text.";

const choiceIndex = field(count, "The choice's number, from 0.");
const trace = field(
  v.exactOptional(v.array(TokenShift)),
  "The steering trace: one entry for each token, in order. Present only if the request sets `steering.trace`.",
);
const streamedUsage = field(
  v.exactOptional(v.nullable(Usage)),
  "The tokens that the request used. In chunks, present only with `stream_options.include_usage`, and null in all but the last one.",
);

const chatToken = {
  token: field(
    v.string(),
    "The token's text. Bytes that are not whole characters are written as `\\xf0\\x9f`.",
    { examples: [" Paris"] },
  ),
  logprob: field(
    v.number(),
    "The token's log-probability in the steered distribution, in nats, before penalties, bias, temperature and truncation. -9999 means practically impossible.",
    { examples: [-0.1054] },
  ),
  bytes: field(v.array(count), "The token's bytes, each 0 to 255."),
};

/** A generated token of a chat or a response. */
export const ChatTokenLogprob = v.strictObject({
  ...chatToken,
  top_logprobs: field(
    v.array(v.strictObject(chatToken)),
    "The likeliest tokens at this position, the likeliest first: as many as the request asks for.",
  ),
});
export type ChatTokenLogprob = Reply<typeof ChatTokenLogprob>;

export const ChatLogprobs = v.strictObject({
  content: field(
    v.array(ChatTokenLogprob),
    "One entry for each token, in order, but none for an end-of-sequence token.",
  ),
  refusal: field(v.null(), REFUSAL),
});
export type ChatLogprobs = Reply<typeof ChatLogprobs>;

const chatChoice = {
  index: choiceIndex,
  logprobs: field(
    v.nullable(ChatLogprobs),
    "Log-probabilities of the tokens. Null if the request does not ask for them.",
  ),
  trace,
  finish_reason: finishReason,
};

export const ChatCompletion = v.strictObject({
  id: field(v.string(), "`chatcmpl-` and the id of the (first) job."),
  object: field(v.literal("chat.completion"), "The type of this object: `chat.completion`."),
  created,
  model,
  choices: field(
    v.array(
      v.strictObject({
        ...chatChoice,
        message: field(
          v.strictObject({
            role: field(v.literal("assistant"), "Always `assistant`."),
            content: field(
              v.nullable(v.string()),
              "The generated text, without calls of functions. Null if there are only calls.",
              { examples: ["The capital of France is Paris."] },
            ),
            refusal: field(v.null(), REFUSAL),
            tool_calls: field(
              v.exactOptional(v.array(ChatToolCall)),
              "The functions that the model calls. Absent if it calls none.",
            ),
          }),
          "The generated message.",
        ),
      }),
    ),
    "The choices, by number.",
  ),
  prompt_logprobs: promptLogprobsField,
  usage: field(Usage, "The tokens that all choices used. The prompt counts once."),
  metadata: field(
    v.exactOptional(Metadata),
    "The metadata of the chat: in lists, and in the reply to a change of it.",
  ),
});
export type ChatCompletion = Reply<typeof ChatCompletion>;

/** `GET /v1/chat/completions` */
export const ChatCompletionPage = pageSchema(ChatCompletion);

/** `GET /v1/chat/completions/{id}/messages` */
export const ChatMessagePage = pageSchema(
  v.strictObject({
    id: field(v.string(), "The id of this message."),
    role: field(v.string(), "The author of the message.", { examples: ["user"] }),
    content: field(v.nullable(v.string()), "The message's text."),
    tool_calls: field(
      v.exactOptional(v.array(ChatToolCall)),
      "The functions that the assistant called. Absent if it called none.",
    ),
    tool_call_id: field(
      v.exactOptional(v.string()),
      "The call whose result the message is. Only with the role `tool`.",
    ),
  }),
);

export const ChatCompletionChunk = v.strictObject({
  id: field(v.string(), "`chatcmpl-` and the id of the (first) job."),
  object: field(
    v.literal("chat.completion.chunk"),
    "The type of this object: `chat.completion.chunk`.",
  ),
  created,
  model,
  choices: field(
    v.array(
      v.strictObject({
        ...chatChoice,
        delta: field(
          v.strictObject({
            role: field(
              v.exactOptional(v.literal("assistant")),
              "`assistant`, in the first chunk of a choice.",
            ),
            content: field(v.exactOptional(v.string()), "The next piece of the text.", {
              examples: [" Paris"],
            }),
            refusal: field(v.exactOptional(v.null()), REFUSAL),
            tool_calls: field(
              v.exactOptional(v.array(ChatToolCallDelta)),
              "What this chunk adds to the calls. Absent if it adds nothing to them.",
            ),
          }),
          "What this chunk adds to the message.",
        ),
      }),
    ),
    "The choice that this chunk continues. Empty in the chunk that has the usage.",
  ),
  usage: streamedUsage,
  obfuscation,
});
export type ChatCompletionChunk = Reply<typeof ChatCompletionChunk>;

export const ChatDeletion = deletionSchema("chat.completion.deleted");

export const CompletionLogprobs = v.strictObject({
  tokens: field(
    v.array(v.string()),
    "The tokens' texts. A token that is not made of whole characters begins with `bytes:`.",
  ),
  token_logprobs: field(
    v.array(v.nullable(v.number())),
    "The tokens' log-probabilities in the steered distribution, in nats. With `echo`, null for the prompt's first token.",
  ),
  top_logprobs: field(
    v.array(v.nullable(v.record(v.string(), v.number()))),
    "For each token, the log-probabilities of the likeliest tokens at its position and of the token itself, by their texts. With `echo`, null for the prompt's first token.",
  ),
  text_offset: field(
    v.array(count),
    "For each token, the characters (code points) of the choice's text before it.",
  ),
});
export type CompletionLogprobs = Reply<typeof CompletionLogprobs>;

/** A whole completion, and a chunk of a streamed one: the two have the same form. */
export const TextCompletion = v.strictObject({
  id: field(v.string(), "`cmpl-` and the id of the (first) job."),
  object: field(v.literal("text_completion"), "The type of this object: `text_completion`."),
  created,
  model,
  choices: field(
    v.array(
      v.strictObject({
        index: choiceIndex,
        text: field(v.string(), "The generated text, or the next piece of it.", {
          examples: [" Paris."],
        }),
        logprobs: field(
          v.nullable(CompletionLogprobs),
          "Log-probabilities of the tokens. Null if the request does not ask for them.",
        ),
        prompt_logprobs: promptLogprobsField,
        trace,
        finish_reason: finishReason,
      }),
    ),
    "The choices, in the order of the prompts, and those of one prompt by number. A chunk has only the choice that it continues, and the chunk with the usage has none.",
  ),
  usage: streamedUsage,
  obfuscation,
});
export type TextCompletion = Reply<typeof TextCompletion>;
