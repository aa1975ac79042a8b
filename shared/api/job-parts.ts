/** Parts of a job reply: phases and times, steering, output, usage, error. */
import * as v from "valibot";
import { ErrorCode } from "./error-codes.ts";
import { count, EXAMPLE_TIME, field, type Reply } from "./schema.ts";
import { candidateDetails, tokenDetails } from "./token-details.ts";
import { ChatToolCall } from "./tools.ts";

export const FinishReason = v.pipe(
  v.picklist(["stop", "length", "tool_calls"]),
  v.description(
    "Why generation ended: `stop` at an end-of-sequence token, a stop string or the end of a response format, `length` at the token limit, `tool_calls` after calls of functions.",
  ),
);
export type FinishReason = v.InferOutput<typeof FinishReason>;

/**
 * These are not OpenAI's `accepted_prediction_tokens` and `rejected_prediction_tokens`: those count the tokens of a prediction
 * that the request contains, and rejected ones are billed.
 */
export const Speculation = v.strictObject({
  drafted_tokens: field(
    count,
    "Tokens drafted ahead by speculative decoding, in the attempt that ended the job.",
  ),
  accepted_tokens: field(count, "The drafted tokens that became output."),
});

export const RemoteBaseUsage = v.strictObject({
  calls: field(count, "Calls of the base's server, without those that were repeated.", {
    examples: [5],
  }),
  asked_again: field(
    count,
    "The calls that asked for more of a distribution, because a token was not proven by the first part.",
  ),
  certified_tokens: field(
    count,
    "Tokens that are proven to be those of the base's whole distribution.",
    { examples: [12] },
  ),
  bounded_tokens: field(count, "Tokens that are not proven, but within `steering.base_error_max`."),
  base_alone_tokens: field(
    count,
    "Tokens that were drawn from the base alone, because their bound was larger than `steering.base_error_max`. Each is a certified or a bounded one as well.",
  ),
  error_max: field(
    v.number(),
    "The largest bound of such a token: the total variation distance between its distribution and the exact one, 0 to 1.",
  ),
  bytes: field(count, "Bytes of the bodies of requests and replies."),
});

export type RemoteBaseUsage = Reply<typeof RemoteBaseUsage>;

export const BASE_CALLS =
  "Runs of the base model (forward passes) for the job: one for each chunk of the prompt that was read, for each generated token without drafts, for each verification of drafts, and for each chunk of given tokens that was scored. A run counts for each job that took part in it. Of a base on another server, the calls. Runs of a worker that was lost count up to the last token that it logged.";

export const baseCalls = field(
  v.exactOptional(count),
  `${BASE_CALLS} Absent for a job of an earlier release.`,
  { examples: [13] },
);

export const Usage = v.strictObject({
  prompt_tokens: field(count, "Tokens of the prompt.", { examples: [24] }),
  completion_tokens: field(count, "Generated tokens.", { examples: [12] }),
  total_tokens: field(count, "Tokens of the prompt and generated tokens.", { examples: [36] }),
  prompt_tokens_details: field(
    v.strictObject({
      cached_tokens: field(
        count,
        "Tokens at the prompt's beginning that the worker still had in its KV cache from an earlier prompt of the same tenant.",
      ),
    }),
    "Details of the prompt's tokens.",
  ),
  speculation: field(
    Speculation,
    "How many tokens speculative decoding drafts, and how many of them are accepted.",
  ),
  base_calls: baseCalls,
  remote_base: field(
    v.exactOptional(RemoteBaseUsage),
    "What a base on another server has cost, in the attempt that ended the job, and how many tokens are proven. Absent if the base runs in the worker.",
  ),
});
export type Usage = Reply<typeof Usage>;

export const Phase = v.pipe(
  v.picklist(["waiting", "loading", "prefill", "decode", "ended"]),
  v.description(
    "The progress of a job: `waiting` for a worker, `loading` until the worker has room for it, `prefill` of the prompt, `decode` from the first token on, `ended`.",
  ),
);
export type Phase = v.InferOutput<typeof Phase>;

export const Timings = v.strictObject({
  loading_at: field(
    v.nullable(v.number()),
    "When the worker of the last attempt claimed the job, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.25] },
  ),
  prefill_at: field(
    v.nullable(v.number()),
    "When the last attempt began the prefill of the prompt, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.375] },
  ),
  decode_at: field(
    v.nullable(v.number()),
    "When the last attempt logged its first tokens, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.5] },
  ),
  first_token_at: field(
    v.nullable(v.number()),
    "When any attempt logged the job's first token, as a Unix time in seconds. Null before.",
    { examples: [EXAMPLE_TIME + 0.5] },
  ),
  time_to_first_token: field(
    v.nullable(v.number()),
    "Seconds from the submission to the first token. Null before the first token.",
    { examples: [0.375] },
  ),
  tokens_per_second: field(
    v.nullable(v.number()),
    "Speed of the last attempt in tokens per second, from its first tokens to its last. Null until it has logged tokens twice: also at the end of a short output whose tokens came in one step (accepted drafts).",
    { examples: [38.5] },
  ),
});
export type Timings = Reply<typeof Timings>;

export const JobGuards = v.strictObject({
  base_nucleus: field(
    v.exactOptional(v.number()),
    "The probability mass of the base's nucleus to which tokens are restricted, above 0 to 1. Absent if this guard is off.",
  ),
  kl_budget: field(
    v.exactOptional(v.number()),
    "The most KL(steered || base) of a token, in nats. Absent if this guard is off.",
  ),
  fallback: field(
    v.exactOptional(v.number()),
    "The total variation distance between expert and antiexpert below which the base is used alone, above 0 to 1. Absent if this guard is off.",
  ),
});

export const JobGate = v.strictObject({
  min_entropy: field(
    v.exactOptional(v.number()),
    "The least entropy of the base's distribution, in nats. Absent without this condition.",
  ),
  max_margin: field(
    v.exactOptional(v.number()),
    "The largest difference of the base's two largest logits, in nats. Absent without this condition.",
  ),
});

export const JobSteering = v.strictObject({
  alpha: field(
    v.number(),
    "The steering strength. With a schedule, the alpha of the schedule that is largest in absolute value.",
    { examples: [1] },
  ),
  schedule: field(
    v.exactOptional(v.array(v.strictTuple([v.number(), v.number()]))),
    "The [position, alpha] knots of the request's schedule. Absent without one.",
    {
      examples: [
        [
          [0, 1.5],
          [64, 0.5],
        ],
      ],
    },
  ),
  pairs: field(
    v.exactOptional(
      v.array(
        v.strictObject({
          model: field(v.string(), "The model whose expert and antiexpert steer."),
          weight: field(v.number(), "The pair's weight, above 0 to 4."),
        }),
      ),
    ),
    "The expert/antiexpert pairs that steer instead of the model's own pair. Absent if the request names none.",
  ),
  pair_conflicts: field(
    v.exactOptional(v.literal("elect")),
    "Present if at each token only the pairs with the sign of their sum count. Absent if all are added.",
  ),
  guards: field(v.exactOptional(JobGuards), "The guards of the request. Absent without any."),
  gate: field(
    v.exactOptional(JobGate),
    "Where the shift is applied. Absent if it is applied at every token.",
  ),
  base_error_max: field(
    v.exactOptional(v.number()),
    "The bound of the request for tokens that a base on another server cannot prove. Absent if it is 0.",
  ),
  base_error_action: field(
    v.exactOptional(v.literal("base")),
    "Present if tokens above that bound are drawn from the base alone. Absent if they fail the job.",
  ),
  trace: field(
    v.exactOptional(v.boolean()),
    "Whether the job keeps a steering trace. Absent if not.",
  ),
});

export const JobError = v.strictObject({
  code: field(ErrorCode, "The error's code."),
  message: field(v.string(), "The error in one sentence, for people."),
});

export const JobOutput = v.strictObject({
  text: field(
    v.string(),
    "The generated text so far. It is complete once the state is terminal; then the reply also has the details of its tokens, which a stream has as they are generated.",
    {
      examples: ["The capital of France is Paris."],
    },
  ),
  tool_calls: field(
    v.exactOptional(v.array(ChatToolCall)),
    "The functions that the model has called so far. `text` contains the calls as the model wrote them. Absent if it called none.",
  ),
  finish_reason: field(
    v.nullable(FinishReason),
    "Why generation ended. Null while it has not, and for jobs that did not succeed.",
    { examples: ["stop"] },
  ),
  stop_sequence: field(
    v.exactOptional(v.string()),
    "The stop string that ended the output. Absent if none did.",
  ),
  masked_mean: field(
    v.exactOptional(v.number()),
    "The mean over the tokens of the probability, 0 to 1, that the steered distribution gives to tokens that the response format or the tools forbid. Present only with a response format or tools, once the job has ended.",
  ),
  ...tokenDetails,
  ...candidateDetails,
});
