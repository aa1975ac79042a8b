/** Tokenizers as vLLM serves them, and counting the tokens of a response's input. */
import * as v from "valibot";
import { hasOneInput, Messages, ONE_INPUT_MESSAGE, TokenIds } from "./input.ts";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { count, field, nonEmpty, optional, text, type Reply } from "./schema.ts";

const model = optional(
  nonEmpty(LIMITS.modelCharsMax),
  "The model whose base has the tokenizer. It may be left out if all models that the key may use have the same base.",
  { examples: ["atlas-qa"] },
);

/** `POST /tokenize` */
export const TokenizeRequest = v.pipe(
  requestObject({
    model,
    prompt: field(
      v.optional(text(LIMITS.promptCharsMax)),
      "The text. Give exactly one of `prompt` and `messages`.",
      { examples: ["The capital of France is"] },
    ),
    messages: field(
      v.optional(Messages),
      "The conversation, which the base's chat template renders. Give exactly one of `prompt` and `messages`.",
    ),
    add_special_tokens: optional(
      v.boolean(),
      "Whether a text gets the tokens that it gets as the prompt of a completion, such as one for its beginning. A conversation gets those of its template.",
      { default: true },
    ),
    add_generation_prompt: optional(
      v.literal(true),
      "Accepted for compatibility. Only true is supported: a conversation ends where the answer begins.",
      { default: true },
    ),
    continue_final_message: optional(
      v.literal(false),
      "Accepted for compatibility. Only false is supported.",
      { default: false },
    ),
    return_token_strs: optional(v.boolean(), "Whether to return the tokens' texts too.", {
      default: false,
    }),
  }),
  v.forward(
    v.check((request) => hasOneInput(request), ONE_INPUT_MESSAGE),
    ["prompt"],
  ),
);
export type TokenizeRequest = v.InferOutput<typeof TokenizeRequest>;

export const Tokenization = v.strictObject({
  count: field(count, "How many tokens there are.", { examples: [5] }),
  max_model_len: field(count, "The model's context length in tokens.", { examples: [512] }),
  tokens: field(v.array(count), "The token ids, in order."),
  token_strs: field(
    v.nullable(v.array(v.string())),
    "The tokens' texts, if `return_token_strs` is set. Bytes that are not whole characters are written as `\\xf0\\x9f`.",
  ),
});
export type Tokenization = Reply<typeof Tokenization>;

/** `POST /detokenize` */
export const DetokenizeRequest = requestObject({
  model,
  tokens: field(TokenIds, "The token ids.", { examples: [[464, 3139]] }),
});
export type DetokenizeRequest = v.InferOutput<typeof DetokenizeRequest>;

export const Detokenization = v.strictObject({
  prompt: field(v.string(), "The text of the tokens, special ones written out.", {
    examples: ["The capital"],
  }),
});

export const TokenizerInfo = v.looseObject({
  tokenizer_class: field(v.string(), "The class of Hugging Face's tokenizers.", {
    examples: ["PreTrainedTokenizerFast"],
  }),
  bos_token: field(v.nullable(v.string()), "The token at the beginning of a text; null for none."),
  eos_token: field(v.nullable(v.string()), "The token at the end of an output; null for none."),
  chat_template: field(
    v.nullable(v.string()),
    "The Jinja template of conversations; null for none.",
  ),
});
export type TokenizerInfo = Reply<typeof TokenizerInfo>;

export const InputTokens = v.strictObject({
  object: field(
    v.literal("response.input_tokens"),
    "The type of this object: `response.input_tokens`.",
  ),
  input_tokens: field(count, "Tokens of the base's prompt.", { examples: [24] }),
});
