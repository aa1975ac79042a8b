/** SGLang's server: POST /generate and /tokenize (0.5.23). A list longer than the vocabulary ends the real one's scheduler. */
import { likeliest } from "./logits.ts";
import { toldLogprobs, type ServedModel } from "./model.ts";
import type { BaseRoutes } from "./server.ts";

interface GenerateBody {
  readonly input_ids: readonly number[];
  readonly sampling_params: { readonly temperature: number };
  readonly logprob_start_len: number;
  readonly top_logprobs_num: number;
  readonly token_ids_logprob?: readonly number[];
}

export function sglangRoutes(model: ServedModel): BaseRoutes {
  return async (path, body) => {
    if (path === "/tokenize" && model.tokenizer) {
      const tokens = model.tokenizer.encodeCompletion(String(body["prompt"]));
      return { body: { tokens, count: tokens.length, max_model_len: 512 } };
    }
    if (path !== "/generate") return null;
    const query = body as unknown as GenerateBody;
    const { input_ids: ids, logprob_start_len: start, top_logprobs_num: count } = query;
    if (count > model.vocabSize) throw new Error("the scheduler has ended");
    // Row i is the distribution after the first i + 1 tokens.
    const rowAfter = async (length: number) => {
      const told = await toldLogprobs(
        model,
        ids.slice(0, length),
        query.sampling_params.temperature,
      );
      const entries = (listed: readonly number[]) => listed.map((id) => [told[id]!, id, null]);
      return {
        top: entries(likeliest(told, count)),
        asked: entries(query.token_ids_logprob ?? []),
        told,
      };
    };
    const rows = [];
    for (let length = start + 1; length <= ids.length; length++) rows.push(await rowAfter(length));
    const last = rows.at(-1)!;
    const sampled = likeliest(last.told, 1)[0]!;
    return {
      body: {
        text: "",
        output_ids: [sampled],
        meta_info: {
          id: "1",
          finish_reason: { type: "length", length: 1 },
          prompt_tokens: ids.length,
          completion_tokens: 1,
          cached_tokens: start,
          input_token_logprobs: [
            [null, ids[start], null],
            ...rows
              .slice(0, -1)
              .map(({ told }, i) => [told[ids[start + i + 1]!], ids[start + i + 1], null]),
          ],
          output_token_logprobs: [[last.told[sampled], sampled, null]],
          input_top_logprobs: [null, ...rows.slice(0, -1).map(({ top }) => top)],
          output_top_logprobs: [last.top],
          input_token_ids_logprobs: [null, ...rows.slice(0, -1).map(({ asked }) => asked)],
          output_token_ids_logprobs: [last.asked],
        },
      },
    };
  };
}
