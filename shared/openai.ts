/** The wire contract in OpenAI's words: what a chat or completion may ask, as far as it is served. */
import * as v from "valibot";
import {
  generation,
  integer,
  messages,
  prompt,
  promptTokens,
  text,
  topLogprobs,
} from "./contract.ts";
import { LIMITS } from "./limits.ts";

const prompts = v.union(
  [
    text(LIMITS.promptCharsMax),
    promptTokens,
    v.pipe(v.array(prompt), v.minLength(1), v.maxLength(LIMITS.choicesMax)),
  ],
  `Expected a string, a non-empty array of token ids, or 1 to ${LIMITS.choicesMax} of these`,
);

/** Fields of the OpenAI protocols that change how the reply is sent. */
const openai = {
  stream: v.nullish(v.boolean()),
  stream_options: v.nullish(v.strictObject({ include_usage: v.nullish(v.boolean()) })),
  /** Choices for each prompt: the k-th under the seed plus k, as if it had been asked for alone. */
  n: v.nullish(integer(1, LIMITS.choicesMax)),
};

/** Fields of the newer OpenAI protocols about how the job is kept and whom it is for; they change no token. */
export const keeping = {
  /** False: the ended job is deleted after minutes. */
  store: v.nullish(v.boolean()),
  safety_identifier: v.nullish(text(LIMITS.modelCharsMax)),
  prompt_cache_key: v.nullish(text(LIMITS.modelCharsMax)),
};
export type Keeping = v.InferOutput<v.StrictObjectSchema<typeof keeping, undefined>>;

/** `POST /v1/chat/completions` */
export const ChatRequest = v.pipe(
  v.strictObject({
    ...generation,
    ...openai,
    ...keeping,
    messages,
    max_completion_tokens: v.nullish(integer(1, LIMITS.maxTokensMax)),
    logprobs: v.nullish(v.boolean()),
    top_logprobs: topLogprobs,
  }),
  v.forward(
    v.check(
      ({ logprobs, top_logprobs }) => logprobs === true || (top_logprobs ?? null) === null,
      "Expected true where top_logprobs is given",
    ),
    ["logprobs"],
  ),
);
export type ChatRequest = v.InferOutput<typeof ChatRequest>;

/** `POST /v1/completions` */
export const CompletionRequest = v.strictObject({
  ...generation,
  ...openai,
  prompt: prompts,
  logprobs: topLogprobs,
  echo: v.nullish(v.literal(false)),
  best_of: v.nullish(v.literal(1)),
  suffix: v.nullish(v.literal("")),
});
export type CompletionRequest = v.InferOutput<typeof CompletionRequest>;
