/**
 * llama.cpp's server (`llama-server`), POST /completion. Token ids in and out. `n_probs` gives the softmax over all logits,
 * before any sampling, unless `post_sampling_probs` is set; it has no cap. Ids are asked for by a bias (llama-lifts.ts). Several
 * prompts in a call run in several slots, and a slot keeps the cache of its last prompt. So each of k drafts is computed again in up to k
 * slots. A stream that a grammar makes begin with the drafts computes each once, one after the other.
 * Source: tools/server/README.md and server-context.cpp of github.com/ggml-org/llama.cpp; seen with build 11549.
 */
import { BaseRow, InvalidRow, RefusedStream, type TokenLogprob } from "../base-row.ts";
import {
  computedCount,
  promptsOf,
  toldCount,
  type BaseApi,
  type RowsQuery,
  type StreamQuery,
} from "../api.ts";
import {
  idsBody,
  IDS_MAX,
  liftedRow,
  liftingBody,
  LIFT_MAX,
  parseIds,
  type LiftedPosition,
} from "./llama-lifts.ts";

/** Larger than any difference of logits. */
const DRAWN_BIAS = 1000;
/** Larger than any id, as a grammar takes them. */
const NO_TOKEN = 999_999_999;

interface Completion {
  readonly index: number;
  readonly tokens_evaluated: number;
  readonly id_slot?: number;
  readonly "timings/cache_n"?: number;
  readonly completion_probabilities: readonly (LiftedPosition & {
    readonly id: number;
    readonly logprob: number;
    readonly top_logprobs: readonly { readonly id: number; readonly logprob: number }[];
  })[];
}

interface StreamEvent {
  readonly index: number;
  readonly tokens: readonly number[];
  readonly tokens_predicted?: number;
  readonly tokens_evaluated?: number;
  readonly completion_probabilities?: Completion["completion_probabilities"];
}

/**
 * @param wholeToken a token that is whole characters. The server gives no row if the token that it draws ends within a
 *   character, so it is made to draw this one; the row is that of the logits before the bias.
 */
export function llamaCpp(wholeToken: number | null = null): BaseApi {
  const bias = wholeToken === null ? {} : { logit_bias: [[wholeToken, DRAWN_BIAS]] };
  return {
    prompts: "ids",
    topMax: null,
    topRemedy: 'Set "top" to what the server allows',
    entryBytes: 400,
    liftMax: LIFT_MAX,
    ids: {
      max: IDS_MAX,
      call: (query) => ({ path: "/completion", body: idsBody(query, wholeToken) }),
      parse: parseIds,
    },
    stream: {
      canLead: true,
      // The base's own token is its likeliest one: without a seed in common, a drawn one agrees less often.
      call: (query) => ({
        path: "/completion",
        body: {
          prompt: promptsOf(query),
          n_predict: query.tokens,
          n_probs: query.top,
          temperature: 0,
          samplers: ["temperature"],
          cache_prompt: true,
          ...slotOf(query),
          stream: true,
          ...(query.lead.length > 0 && { grammar: leadGrammar(query.lead) }),
        },
      }),
      parser: streamParser,
    },
    rows: (query) => ({
      path: "/completion",
      body: {
        prompt: promptsOf(query),
        n_predict: 1,
        n_probs: query.top,
        temperature: query.temperature ?? 1,
        samplers: ["temperature"],
        ...(query.lifts?.size ? liftingBody(query.lifts) : { ...bias, post_sampling_probs: false }),
        cache_prompt: true,
        ...slotOf(query),
        response_fields: [
          "index",
          "id_slot",
          "tokens_evaluated",
          "timings/cache_n",
          "completion_probabilities",
        ],
      },
    }),
    parseRows: (reply, query, vocabSize) => {
      // A list of one prompt is answered without a list.
      const completions = [reply].flat() as readonly Completion[];
      const count = query.drafts.length + 1;
      if (completions.length !== count) {
        throw new InvalidRow(`${count} rows were asked for, and ${completions.length} came`);
      }
      const ordered = completions.toSorted((a, b) => a.index - b.index);
      // Lifted rows are those of what the server draws from, so it cannot be made to draw a token that is whole characters.
      const isUntold =
        query.lifts?.size && ordered.some((one) => one.completion_probabilities.length === 0);
      return {
        rows: isUntold
          ? []
          : ordered.map((completion, i) => rowOf(completion, i, query, vocabSize)),
        cachedTokens: toldCount(ordered[0]!["timings/cache_n"]),
        slot: ordered.length === 1 ? toldCount(ordered[0]!.id_slot) : null,
        computedTokens: ordered.map(
          (one) => computedCount(one.tokens_evaluated, toldCount(one["timings/cache_n"])) ?? 1,
        ),
      };
    },
    slots: {
      path: "/props",
      parse: (reply) => (reply as { total_slots: number }).total_slots,
    },
    tokenize: {
      call: (text) => ({
        path: "/tokenize",
        body: { content: text, add_special: false, parse_special: true },
      }),
      parse: (reply) => (reply as { tokens: readonly number[] }).tokens,
    },
  };
}

function rowOf(
  { index, tokens_evaluated, completion_probabilities }: Completion,
  i: number,
  { context, top, lifts }: RowsQuery,
  vocabSize: number,
): BaseRow {
  if (index !== i || tokens_evaluated !== context.length + i) {
    throw new InvalidRow(`row ${i} is of a prompt with ${tokens_evaluated} tokens`);
  }
  if (lifts?.size) return liftedRow(completion_probabilities, top, lifts, vocabSize);
  return listOf(completion_probabilities, top, vocabSize);
}

/** @throws TypeError if there is no list: the sampled token ends within a character */
function listOf(
  probabilities: Completion["completion_probabilities"],
  top: number,
  vocabSize: number,
): BaseRow {
  const [{ id, logprob, top_logprobs }] = probabilities as [
    Completion["completion_probabilities"][0],
  ];
  const listed = top_logprobs.map((entry): TokenLogprob => [entry.id, entry.logprob]);
  if (listed.length !== Math.min(top, vocabSize)) {
    throw new InvalidRow(`${top} tokens were asked for, and ${listed.length} came`);
  }
  // The sampled token may be an unlisted one.
  return new BaseRow(vocabSize, listed, [[id, logprob]]);
}

/**
 * A call for a slot waits until it is free. Otherwise it takes the free one that has most of the prompt in its cache. A stream tells its
 * slot only in its last event (before, `id_slot` is -1), so one that is left was in a known slot only if it was called for there.
 */
const slotOf = ({ slot, drafts }: RowsQuery) =>
  typeof slot === "number" && drafts.length === 0 ? { id_slot: slot } : {};

/** These tokens, then any. Log-probabilities are those before the grammar. A negated id beyond the vocabulary stands for any token. */
const leadGrammar = (lead: readonly number[]) =>
  `root ::= ${lead.map((id) => `<[${id}]>`).join(" ")} (!<[${NO_TOKEN}]>)*`;

/** Tokens that end within a character send no event, and the rows after them would be those of other positions. */
function streamParser({ context, top, lead }: StreamQuery, vocabSize: number) {
  const counts: number[] = [];
  return (event: unknown) => {
    const { index, tokens, tokens_predicted, tokens_evaluated, completion_probabilities } =
      event as StreamEvent;
    if (!completion_probabilities) return [];
    const count = (counts[index] ?? 0) + 1;
    counts[index] = count;
    if (tokens_predicted !== count || tokens_evaluated !== context.length + index) {
      throw new InvalidRow(`row ${count} of a stream is missing`);
    }
    const expected = lead[count - 1];
    if (expected !== undefined && tokens[0] !== expected) {
      // A server may ignore a grammar that it does not know.
      throw new RefusedStream("a stream does not begin with the tokens that were asked for");
    }
    const row = listOf(completion_probabilities, top, vocabSize);
    return [{ branch: index, row, token: tokens[0]! }];
  };
}
