/** The tokenizers of the models' bases, as vLLM serves them: without `/v1`. */
import { nonEmpty, optional } from "../../shared/api/schema.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import {
  Detokenization,
  DetokenizeRequest,
  Tokenization,
  TokenizeRequest,
  TokenizerInfo,
} from "../../shared/api/tokenizers.ts";
import { inputOf } from "../../shared/submission/validate.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { askTokenizer, TOKENIZER, tokenizerModel } from "../requests/tokenizer.ts";

export function tokenizerRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/tokenize",
        operationId: "tokenize",
        tag: "OpenAI",
        summary: "Token ids of a text or a conversation",
        description:
          "They are those that the base gets for the same prompt or messages. No job is created; the call counts as one request of the API key.",
        access: { scope: "jobs:write" },
        body: jsonBody(TokenizeRequest, { model: "atlas-qa", prompt: "the capital of france" }),
        uses: [TOKENIZER],
        replies: { 200: { description: "The tokens.", schema: Tokenization } },
      },
      async (c, { body, json }) => {
        const card = await tokenizerModel(c, body.model);
        const { messages, prompt = "" } = body;
        const { ids, texts } = await askTokenizer(c, card, {
          kind: "encode",
          input: messages ? inputOf({ messages }) : { kind: "text", text: prompt },
          addSpecialTokens: body.add_special_tokens ?? true,
          withTexts: body.return_token_strs ?? false,
        });
        const max_model_len = card.contextTokens;
        return json(200, { count: ids.length, max_model_len, tokens: ids, token_strs: texts });
      },
    ),
    route(
      {
        method: "POST",
        path: "/detokenize",
        operationId: "detokenize",
        tag: "OpenAI",
        summary: "The text of token ids",
        description: "No job is created; the call counts as one request of the API key.",
        access: { scope: "jobs:write" },
        body: jsonBody(DetokenizeRequest, { model: "atlas-qa", tokens: [464, 3139] }),
        uses: [TOKENIZER],
        replies: { 200: { description: "The text.", schema: Detokenization } },
      },
      async (c, { body, json }) => {
        const card = await tokenizerModel(c, body.model);
        const { text } = await askTokenizer(c, card, { kind: "decode", ids: body.tokens });
        return json(200, { prompt: text });
      },
    ),
    route(
      {
        method: "GET",
        path: "/tokenizer_info",
        operationId: "getTokenizerInfo",
        tag: "OpenAI",
        summary: "The configuration of a tokenizer",
        description: "The members of the base's tokenizer_config.json, and its chat template.",
        access: { scope: "jobs:read" },
        query: {
          model: optional(
            nonEmpty(LIMITS.modelCharsMax),
            "The model. It may be left out if all models that the key may use have the same base.",
            { examples: ["atlas-qa"] },
          ),
        },
        uses: [TOKENIZER],
        replies: { 200: { description: "The configuration.", schema: TokenizerInfo } },
      },
      async (c, { query, json }) => {
        const card = await tokenizerModel(c, query.model);
        const { info } = await askTokenizer(c, card, { kind: "info" });
        return json(200, {
          tokenizer_class: "PreTrainedTokenizerFast",
          bos_token: null,
          eos_token: null,
          chat_template: null,
          ...info,
        });
      },
    ),
  ];
}
