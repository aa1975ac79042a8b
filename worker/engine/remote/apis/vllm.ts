/**
 * vLLM's OpenAI-compatible server, POST /v1/completions. Token ids in (`prompt`), and out as `token_id:N`. `logprobs: k` is
 * refused above `--max-logprobs` (20 unless set). `logprob_token_ids` asks for up to 128 ids and replaces the k most likely.
 * A batch of prompts keeps the prefix cache, which `prompt_logprobs` would not. Log-probabilities are those before sampling
 * (`--logprobs-mode raw_logprobs`, the default).
 * Source: vllm/entrypoints/openai/completion/protocol.py and vllm/sampling_params.py of github.com/vllm-project/vllm, 0.33.
 */
import { BaseRow, InvalidRow, type TokenLogprob } from "../base-row.ts";
import {
  computedCount,
  promptsOf,
  toldCount,
  type BaseApi,
  type RowsQuery,
  type StreamQuery,
} from "../api.ts";

const IDS_MAX = 128;
/** vLLM writes this for -Infinity. */
const CUT_LOGPROB = -9999;

interface StreamChunk {
  readonly choices: readonly {
    readonly index: number;
    readonly logprobs?: {
      readonly tokens: readonly string[];
      readonly top_logprobs: readonly Readonly<Record<string, number>>[];
    } | null;
  }[];
  /** Of the choice: the tokens of its prompt, and those that it has so far. */
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

interface Completion {
  readonly choices: readonly {
    readonly index: number;
    readonly logprobs: { readonly top_logprobs: readonly Readonly<Record<string, number>>[] };
  }[];
  readonly usage: {
    readonly prompt_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
  };
}

/** @param top the largest list, which is the server's `--max-logprobs` */
export function vllm(model: string, top: number): BaseApi {
  const body = ({ salt, temperature = 1 }: Pick<RowsQuery, "salt" | "temperature">) => ({
    model,
    max_tokens: 1,
    temperature,
    // vLLM takes what is absent from the model's generation_config.
    top_p: 1,
    top_k: -1,
    min_p: 0,
    repetition_penalty: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    return_tokens_as_token_ids: true,
    add_special_tokens: false,
    ...(salt && { cache_salt: salt }),
  });
  return {
    prompts: "ids",
    topMax: top,
    topRemedy: `Start vLLM with --max-logprobs ${top}, or set "top" to what it allows`,
    entryBytes: 100,
    rows: (query) => ({
      path: "/v1/completions",
      body: { ...body(query), prompt: promptsOf(query), logprobs: query.top },
    }),
    parseRows: (reply, query, vocabSize) => {
      const { usage } = reply as Completion;
      const entries = entriesOf(reply as Completion, query);
      const cachedTokens = toldCount(usage.prompt_tokens_details?.cached_tokens);
      const computed = computedCount(usage.prompt_tokens, cachedTokens);
      return {
        rows: entries.map((row) => rowOf(row, query.top, vocabSize)),
        cachedTokens: query.drafts.length === 0 ? cachedTokens : null,
        // It tells those of all prompts together.
        computedTokens: computed === null ? null : entries.map(() => computed / entries.length),
      };
    },
    stream: {
      call: (query) => ({
        path: "/v1/completions",
        body: {
          ...body({ ...query, temperature: 0 }),
          max_tokens: query.tokens,
          prompt: promptsOf(query),
          logprobs: query.top,
          stream: true,
          stream_options: { include_usage: true, continuous_usage_stats: true },
        },
      }),
      parser: streamParser,
    },
    ids: {
      max: IDS_MAX,
      call: ({ context, ids, salt }) => ({
        path: "/v1/completions",
        body: { ...body({ salt }), prompt: [context], logprobs: 1, logprob_token_ids: ids },
      }),
      parse: (reply, { context }) => entriesOf(reply as Completion, { context, drafts: [] })[0]!,
    },
    tokenize: {
      call: (text) => ({
        path: "/tokenize",
        body: { model, prompt: text, add_special_tokens: false },
      }),
      parse: (reply) => (reply as { tokens: readonly number[] }).tokens,
    },
  };
}

function rowOf(entries: readonly TokenLogprob[], top: number, vocabSize: number): BaseRow {
  const listed = Math.min(top, vocabSize);
  if (entries.length < listed) {
    throw new InvalidRow(`${listed} tokens were asked for, and ${entries.length} came`);
  }
  if (entries[listed - 1]![1] <= CUT_LOGPROB) {
    throw new InvalidRow(
      "its log-probabilities are those after truncation; start vLLM with --logprobs-mode raw_logprobs",
    );
  }
  // The sampled token is listed too; if it is not among the k most likely, it is the least likely of the entries.
  return new BaseRow(vocabSize, entries.slice(0, listed), entries.slice(listed));
}

/** A chunk has one token or more of one branch. The counts show rows of another prompt, and missing ones. */
function streamParser({ context, top }: StreamQuery, vocabSize: number) {
  const counts: number[] = [];
  return (event: unknown) => {
    const { choices, usage } = event as StreamChunk;
    return choices.flatMap(({ index, logprobs }) => {
      const lists = logprobs?.top_logprobs ?? [];
      if (lists.length === 0) return [];
      const count = (counts[index] ?? 0) + lists.length;
      counts[index] = count;
      if (usage?.prompt_tokens !== context.length + index || usage.completion_tokens !== count) {
        throw new InvalidRow(`row ${count} of a stream is missing, or of another prompt`);
      }
      return lists.map((entries, i) => ({
        branch: index,
        row: rowOf(rankedEntries(entries), top, vocabSize),
        token: idOf(logprobs!.tokens[i]!),
      }));
    });
  };
}

function rankedEntries(entries: Readonly<Record<string, number>>): TokenLogprob[] {
  return Object.entries(entries)
    .map(([name, logprob]): TokenLogprob => [idOf(name), logprob])
    .toSorted(([, a], [, b]) => b - a);
}

/** The entries of each prompt, the most likely first. */
function entriesOf(
  { choices, usage }: Completion,
  { context, drafts }: Pick<RowsQuery, "context" | "drafts">,
): TokenLogprob[][] {
  const count = drafts.length + 1;
  const tokens = count * context.length + (drafts.length * count) / 2;
  if (choices.length !== count || usage.prompt_tokens !== tokens) {
    throw new InvalidRow(
      `${choices.length} rows of ${usage.prompt_tokens} tokens came, and ${count} of ${tokens} were asked for`,
    );
  }
  return choices
    .toSorted((a, b) => a.index - b.index)
    .map(({ index, logprobs }, i) => {
      if (index !== i) throw new InvalidRow(`row ${i} is missing`);
      return rankedEntries(logprobs.top_logprobs[0]!);
    });
}

function idOf(name: string): number {
  const [, id] = /^token_id:(\d+)$/.exec(name) ?? [];
  if (id === undefined) throw new InvalidRow(`${JSON.stringify(name)} is no token id`);
  return Number(id);
}
