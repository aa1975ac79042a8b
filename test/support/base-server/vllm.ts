/** vLLM's server: POST /v1/completions and /tokenize, with its caps and error texts (0.33). */
import { likeliest } from "./logits.ts";
import { toldLogprobs, type ServedModel } from "./model.ts";
import type { BaseReply, BaseRoutes } from "./server.ts";

const LOGPROB_TOKEN_IDS_MAX = 128;

interface CompletionBody {
  readonly prompt: readonly (readonly number[])[];
  readonly logprobs: number;
  readonly logprob_token_ids?: readonly number[];
  readonly temperature: number;
  readonly max_tokens: number;
  readonly stream?: boolean;
  readonly stream_options?: { readonly continuous_usage_stats?: boolean };
}

/** @param maxLogprobs the server's `--max-logprobs` */
export function vllmRoutes(model: ServedModel, maxLogprobs = 20): BaseRoutes {
  return async (path, body) => {
    if (path === "/tokenize" && model.tokenizer) {
      const tokens = model.tokenizer.encodeCompletion(String(body["prompt"]));
      return { body: { count: tokens.length, max_model_len: 512, tokens } };
    }
    if (path !== "/v1/completions") return null;
    const { prompt, logprobs, logprob_token_ids, temperature } = body as unknown as CompletionBody;
    if (logprobs > maxLogprobs) {
      return badRequest(
        `Requested sample logprobs of ${logprobs}, which is greater than max allowed: ${maxLogprobs}`,
      );
    }
    if ((logprob_token_ids?.length ?? 0) > LOGPROB_TOKEN_IDS_MAX) {
      return badRequest(`logprob_token_ids must have at most ${LOGPROB_TOKEN_IDS_MAX} elements`);
    }
    if (body["stream"]) {
      return { body: null, events: stream(model, body as unknown as CompletionBody) };
    }
    const choices = [];
    for (const [index, ids] of prompt.entries()) {
      const told = await toldLogprobs(model, ids, temperature);
      // The server draws a token, which is listed in addition if it is not among the most likely.
      const sampled = (ids.length * 7) % 3 === 0 ? model.vocabSize - 1 : likeliest(told, 1)[0]!;
      const listed = logprob_token_ids ?? likeliest(told, logprobs);
      const name = (id: number) => `token_id:${id}`;
      const entries = [...new Set([sampled, ...listed])].map((id) => [name(id), told[id]]);
      choices.push({
        index,
        text: "",
        finish_reason: "length",
        logprobs: {
          text_offset: [0],
          tokens: [name(sampled)],
          token_logprobs: [told[sampled]],
          top_logprobs: [Object.fromEntries(entries)],
        },
      });
    }
    const tokens = prompt.reduce((sum, ids) => sum + ids.length, 0);
    return {
      body: {
        id: "cmpl-1",
        object: "text_completion",
        choices,
        usage: {
          prompt_tokens: tokens,
          completion_tokens: prompt.length,
          total_tokens: tokens + prompt.length,
          prompt_tokens_details: { cached_tokens: Math.floor(tokens / 16) * 16 },
        },
      },
    };
  };
}

/** Chunks with one token, and with two where the server is faster than its reader. */
async function* stream(
  model: ServedModel,
  { prompt: prompts, logprobs, max_tokens, temperature, stream_options }: CompletionBody,
) {
  const name = (id: number) => `token_id:${id}`;
  for (const [index, prompt] of prompts.entries()) {
    const ids = [...prompt];
    for (let left = max_tokens; left > 0;) {
      const count = Math.min(left, 1 + (ids.length % 2));
      const [tokens, lists] = [[] as string[], [] as object[]];
      for (let i = 0; i < count; i++) {
        const told = await toldLogprobs(model, ids, temperature === 0 ? 1 : temperature);
        const listed = likeliest(told, logprobs);
        ids.push(listed[0]!);
        tokens.push(name(listed[0]!));
        lists.push(Object.fromEntries(listed.map((id) => [name(id), told[id]])));
      }
      left -= count;
      yield {
        id: "cmpl-1",
        choices: [{ index, text: "", logprobs: { tokens, top_logprobs: lists } }],
        ...(stream_options?.continuous_usage_stats && {
          usage: {
            prompt_tokens: prompt.length,
            completion_tokens: max_tokens - left,
            total_tokens: ids.length,
          },
        }),
      };
    }
  }
}

const badRequest = (message: string): BaseReply => ({
  status: 400,
  body: { error: { message, type: "BadRequestError", param: null, code: 400 } },
});
