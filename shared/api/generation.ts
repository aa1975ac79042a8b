/** The fields that every request for a generation has: sampling, steering, output, scheduling, and labels. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { ResponseFormat } from "./response-formats.ts";
import { field, integer, nonEmpty, number, optional, record, text } from "./schema.ts";
import { Steering } from "./steering.ts";
import { webhookFields } from "./webhooks.ts";

/** Token id -> number added to its logit. */
export const LogitBias = v.pipe(
  record(
    v.pipe(v.string(), v.regex(/^\d{1,10}$/, "Expected a token id")),
    number(LIMITS.logitBiasMin, LIMITS.logitBiasMax),
  ),
  v.maxEntries(LIMITS.logitBiasEntriesMax),
  v.description("A number for each token id, -100 to 100, which is added to the token's logit."),
);

export const Metadata = v.pipe(
  record(text(LIMITS.metadataKeyCharsMax), text(LIMITS.metadataValueCharsMax)),
  v.maxEntries(LIMITS.metadataEntriesMax),
  v.description("Pairs of strings: labels of your own."),
);

const penalty = number(LIMITS.penaltyMin, LIMITS.penaltyMax);
const deadlineSeconds = number(LIMITS.deadlineSecondsMin, LIMITS.deadlineSecondsMax);

export const generationFields = {
  model: field(
    nonEmpty(LIMITS.modelCharsMax),
    "The model that generates, an `id` of `GET /v1/models`.",
    { examples: ["atlas-qa"] },
  ),
  max_tokens: optional(
    integer(1, LIMITS.maxTokensMax),
    "The most tokens to generate. The model's context length may end the output earlier.",
    { default: LIMITS.maxTokensDefault },
  ),
  temperature: optional(
    number(0, LIMITS.temperatureMax),
    "The temperature of sampling. 0 always takes the likeliest token.",
    { default: 1 },
  ),
  top_p: optional(
    number(0, 1),
    "Keeps the likeliest tokens whose probabilities together reach this value: 0 the likeliest alone, 1 all. It applies after `top_k`.",
    { default: 1 },
  ),
  top_k: optional(
    integer(0, LIMITS.topKMax),
    "Keeps the k likeliest tokens. 0 and -1 keep all. It applies after the temperature.",
    { default: 0 },
  ),
  min_p: optional(
    number(0, 1),
    "Keeps tokens that are at least this fraction as likely as the likeliest one. 0 keeps all. It applies after `top_p`.",
    { default: 0 },
  ),
  presence_penalty: optional(
    penalty,
    "A number that is subtracted from the logit of every token that is already in the output.",
    { default: 0 },
  ),
  frequency_penalty: optional(
    penalty,
    "A number that is subtracted from a token's logit once for each time that the token is already in the output.",
    { default: 0 },
  ),
  repetition_penalty: optional(
    number(LIMITS.repetitionPenaltyMin, LIMITS.repetitionPenaltyMax),
    "Makes tokens of the prompt and the output less likely if above 1: positive logits are divided by it, negative ones multiplied.",
    { default: 1 },
  ),
  logit_bias: optional(LogitBias, "Numbers that are added to the logits of single tokens.", {
    examples: [{ "6342": 5 }],
  }),
  stop: optional(
    v.union(
      [
        nonEmpty(LIMITS.stopCharsMax),
        v.pipe(v.array(nonEmpty(LIMITS.stopCharsMax)), v.maxLength(LIMITS.stopsMax)),
      ],
      `Expected a string or at most ${LIMITS.stopsMax} strings of 1 to ${LIMITS.stopCharsMax} characters`,
    ),
    "Strings that end the output. The output ends before the string, even if the string begins inside a token.",
    { examples: [["\n\n"]] },
  ),
  seed: optional(
    integer(LIMITS.seedMin, LIMITS.seedMax),
    "The seed of random sampling, of up to 64 bits: the same request with the same seed generates the same tokens. A negative seed, and one above 2^53 - 1, is taken modulo 2^53, which the job reports. -1, as the default, is a random seed.",
    { examples: [42] },
  ),
  response_format: optional(ResponseFormat, "The format of the output. The default is any text.", {
    examples: [{ type: "json_object" }],
  }),
  steering: optional(
    Steering,
    "How the base is steered. The default is the model's own alpha and pair.",
    { examples: [{ alpha: 1 }] },
  ),
  webhook: optional(requestObject(webhookFields), "A webhook for this job only."),
  deadline: optional(
    deadlineSeconds,
    "Seconds from the submission within which the job must end, or it is `expired`. The default, one day, is a setting of the server.",
    { default: 86_400 },
  ),
  start_by: optional(
    deadlineSeconds,
    "Seconds from the submission within which the job must start, or it is `expired`. The default is the deadline.",
    { examples: [60] },
  ),
  priority: optional(
    integer(LIMITS.priorityMin, LIMITS.priorityMax),
    "The job's priority among the jobs of its tenant. Jobs of higher priority start first.",
    { default: 0 },
  ),
  metadata: optional(Metadata, "Labels of your own, which replies about the job repeat.", {
    examples: [{ project: "demo" }],
  }),
  user: optional(
    text(LIMITS.modelCharsMax),
    "An id of your own for the end user. It does not change the output.",
  ),
};

/** Fields of OpenAI's protocols about retention and the end user. They do not change the output. */
export const retentionFields = {
  store: optional(
    v.boolean(),
    "Whether the ended job is kept for the usual time. False deletes it ten minutes after it ends.",
    { default: true },
  ),
  safety_identifier: optional(
    text(LIMITS.modelCharsMax),
    "An id of your own for the end user. It is returned with responses and does not change the output.",
  ),
  prompt_cache_key: optional(
    text(LIMITS.modelCharsMax),
    "Accepted for compatibility and returned with responses: prompts are cached without it.",
  ),
};
export type RetentionFields = v.InferOutput<
  v.StrictObjectSchema<typeof retentionFields, undefined>
>;

export const topLogprobs = integer(0, LIMITS.topLogprobsMax);
