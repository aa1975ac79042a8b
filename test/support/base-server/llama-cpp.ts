/** llama.cpp's server: POST /completion and /tokenize. Shapes and error text as build 11549 answers. */
import { likeliest, logSoftmax } from "./logits.ts";
import { toldLogprobs, type ServedModel } from "./model.ts";
import type { BaseReply, BaseRoutes } from "./server.ts";

interface CompletionBody {
  readonly prompt: readonly number[] | readonly (readonly number[])[];
  readonly n_predict: number;
  readonly n_probs: number;
  readonly id_slot?: number;
  readonly post_sampling_probs?: boolean;
  readonly stream?: boolean;
  readonly temperature: number;
  readonly logit_bias?: readonly (readonly [number, number])[];
  readonly response_fields?: readonly string[];
  /** Token ids, and then any token: no other grammar is known here. */
  readonly grammar?: string;
}

export function llamaRoutes(model: ServedModel): BaseRoutes {
  const complete = async (
    ids: readonly number[],
    index: number,
    {
      n_probs,
      temperature,
      logit_bias = [],
      post_sampling_probs = false,
      response_fields = [],
      id_slot = index,
    }: CompletionBody,
  ) => {
    const logprobs = await toldLogprobs(model, ids, temperature);
    const entry = (id: number) => ({
      id,
      token: `<${id}>`,
      bytes: [...Buffer.from(`<${id}>`)],
      logprob: logprobs[id]!,
    });
    const top = likeliest(logprobs, n_probs);
    const biased = logprobs.slice();
    for (const [id, bias] of logit_bias) biased[id] = biased[id]! + bias;
    const [sampled] = likeliest(biased, 1);
    const after = logSoftmax(biased);
    const afterEntry = (id: number) => ({
      ...entry(id),
      logprob: undefined,
      prob: Math.exp(after[id]!),
    });
    const full: Record<string, unknown> = {
      index,
      id_slot,
      content: `<${top[0]}>`,
      tokens_evaluated: ids.length,
      tokens_cached: ids.length,
      "timings/cache_n": ids.length - 1,
      completion_probabilities: model.isPartial?.(sampled!)
        ? []
        : post_sampling_probs
          ? [{ ...afterEntry(sampled!), top_probs: likeliest(after, n_probs).map(afterEntry) }]
          : [{ ...entry(sampled!), top_logprobs: top.map(entry) }],
    };
    return Object.fromEntries(response_fields.map((field) => [field, full[field]]));
  };
  /** The branches take turns, as they share the server's steps. */
  async function* stream(
    prompts: readonly (readonly number[])[],
    { n_predict, n_probs, grammar = "", id_slot = 0 }: CompletionBody,
  ) {
    yield null;
    const lead = [...grammar.matchAll(/ <\[(\d+)\]>/g)].map(([, id]) => Number(id));
    const ids = prompts.map((prompt) => [...prompt]);
    for (let step = 1; step <= n_predict; step++) {
      for (const [index, prompt] of prompts.entries()) {
        const logprobs = await toldLogprobs(model, ids[index]!, 1);
        const entry = (id: number) => ({ id, token: `<${id}>`, logprob: logprobs[id]! });
        const top = likeliest(logprobs, n_probs);
        const token = lead[step - 1] ?? top[0]!;
        ids[index]!.push(token);
        if (model.isPartial?.(token)) continue;
        yield {
          index,
          content: `<${token}>`,
          tokens: [token],
          stop: false,
          // It is told in the last event only.
          id_slot: -1,
          tokens_predicted: step,
          tokens_evaluated: prompt.length,
          completion_probabilities: [{ ...entry(token), top_logprobs: top.map(entry) }],
        };
      }
    }
    for (const index of prompts.keys()) {
      yield { index, content: "", tokens: [], stop: true, id_slot: id_slot + index };
    }
  }

  return async (path, body) => {
    if (path === "/tokenize" && model.tokenizer) {
      return { body: { tokens: model.tokenizer.encodeCompletion(String(body["content"])) } };
    }
    if (path === "/props" && model.slots) return { body: { total_slots: model.slots } };
    if (path !== "/completion") return null;
    const completion = body as unknown as CompletionBody;
    const prompts = (
      Array.isArray(completion.prompt[0]) ? completion.prompt : [completion.prompt]
    ) as readonly (readonly number[])[];
    if (prompts.flat().some((id) => id < 0 || id >= model.vocabSize)) return INVALID;
    if (completion.stream) return { body: null, events: stream(prompts, completion) };
    const results = [];
    for (const [i, ids] of prompts.entries()) results.push(await complete(ids, i, completion));
    return { body: results.length === 1 ? results[0] : results };
  };
}

const INVALID: BaseReply = {
  status: 400,
  body: {
    error: { code: 400, message: "Prompt contains invalid tokens", type: "invalid_request_error" },
  },
};
