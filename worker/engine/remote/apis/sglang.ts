/**
 * SGLang's own API, POST /generate. One call takes context and drafts as one input, and one forward pass gives the rows from
 * `logprob_start_len` on, with the prefix cache in use up to there. The entry at `logprob_start_len` is null; entry i belongs
 * to the row before input token i. The row after the last token is in the output. `token_ids_logprob` asks for ids beside the
 * most likely tokens.
 *
 * `top_logprobs_num` above the vocabulary ends the server's scheduler, so it is never sent. Log-probabilities are those after
 * the temperature (unless the server has SGLANG_RETURN_ORIGINAL_LOGPROB=1), so temperature 1, top_p 1 and top_k -1 are sent.
 * Source: python/sglang/srt/managers/io_struct.py and docs of github.com/sgl-project/sglang, 0.5.23.
 */
import { BaseRow, InvalidRow, type TokenLogprob } from "../base-row.ts";
import { computedCount, toldCount, type BaseApi, type RowsQuery } from "../api.ts";

/** SGLang has no cap; a call with more takes longer than another one with the rest. */
const IDS_MAX = 512;
/** Lifted tokens are told in each row, likely or not. */
const LIFT_MAX = 96;

type Entry = readonly [logprob: number, id: number, text: string | null];

interface Generated {
  readonly meta_info: {
    readonly prompt_tokens: number;
    readonly cached_tokens: number;
    readonly input_token_ids_logprobs?: readonly (readonly Entry[] | null)[] | null;
    /** The input's own tokens from `logprob_start_len` on. */
    readonly input_token_logprobs: readonly (readonly [
      logprob: number | null,
      id: number,
      text: string | null,
    ])[];
    readonly input_top_logprobs: readonly (readonly Entry[] | null)[];
    readonly output_top_logprobs: readonly (readonly Entry[])[];
    readonly output_token_ids_logprobs: readonly (readonly Entry[])[];
  };
}

export function sglang(): BaseApi {
  const body = (
    input: readonly number[],
    start: number,
    { top, salt, temperature = 1, lifts }: Omit<RowsQuery, "context" | "drafts">,
  ) => ({
    input_ids: input,
    sampling_params: { max_new_tokens: 1, temperature, top_p: 1, top_k: -1 },
    return_logprob: true,
    logprob_start_len: start,
    top_logprobs_num: top,
    ...(lifts?.size && { token_ids_logprob: [...lifts.keys()] }),
    // A part of the key of its prefix cache.
    ...(salt && { extra_key: salt }),
  });
  const parsed = (reply: unknown, length: number) => {
    const { meta_info: info } = reply as Generated;
    if (info.prompt_tokens === length) return info;
    throw new InvalidRow(`a row of ${info.prompt_tokens} tokens came for ${length}`);
  };
  return {
    prompts: "ids",
    topMax: null,
    topRemedy: `Set "top" to what the server allows (128 with separate prefill and decode servers)`,
    entryBytes: 100,
    hasOnePrompt: true,
    liftMax: LIFT_MAX,
    rows: (query) => ({
      path: "/generate",
      body: body([...query.context, ...query.drafts], query.context.length - 1, query),
    }),
    parseRows: (reply, { context, drafts, top, lifts }, vocabSize) => {
      const info = parsed(reply, context.length + drafts.length);
      const along = info.input_token_logprobs.slice(1).map(([, id]) => id);
      if (along.join() !== drafts.join()) {
        throw new InvalidRow("rows along other tokens came than those that were asked for");
      }
      const input = info.input_top_logprobs.slice(1);
      const entries = [...input, info.output_top_logprobs[0]!];
      if (entries.length !== drafts.length + 1) {
        throw new InvalidRow(
          `${drafts.length + 1} rows were asked for, and ${entries.length} came`,
        );
      }
      // A row without them is a row all the same.
      const lifted = lifts?.size
        ? [
            ...drafts.map((_, j) => info.input_token_ids_logprobs?.[j + 1]),
            info.output_token_ids_logprobs[0],
          ]
        : [];
      const cachedTokens = toldCount(info.cached_tokens);
      const computed = computedCount(context.length, cachedTokens);
      return {
        rows: entries.map((row, i) => {
          if (row?.length !== Math.min(top, vocabSize)) {
            throw new InvalidRow(`${top} tokens were asked for, and ${row?.length ?? 0} came`);
          }
          return new BaseRow(vocabSize, row.map(toTokenLogprob), lifted[i]?.map(toTokenLogprob));
        }),
        cachedTokens,
        // One prompt: the drafts are computed for the last row.
        computedTokens: computed === null ? null : [...drafts.map(() => 1), computed],
      };
    },
    ids: {
      max: IDS_MAX,
      call: ({ context, ids, salt }) => ({
        path: "/generate",
        body: { ...body(context, context.length - 1, { top: 0, salt }), token_ids_logprob: ids },
      }),
      parse: (reply, { context }) =>
        parsed(reply, context.length).output_token_ids_logprobs[0]!.map(toTokenLogprob),
    },
    tokenize: {
      call: (text) => ({ path: "/tokenize", body: { prompt: text, add_special_tokens: false } }),
      parse: (reply) => (reply as { tokens: readonly number[] }).tokens,
    },
  };
}

const toTokenLogprob = ([logprob, id]: Entry): TokenLogprob => [id, logprob];
