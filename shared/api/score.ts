/** Scoring: how likely a given text is under each model of an ensemble, and under the steered distribution. */
import * as v from "valibot";
import { generationFields, topLogprobs } from "./generation.ts";
import { inputFields, hasOneInput, ONE_INPUT_MESSAGE, Prompt } from "./input.ts";
import { Usage } from "./job-parts.ts";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { count, EXAMPLE_TIME, field, integer, optional, type Reply } from "./schema.ts";
import {
  roleLogprobs,
  TokenCandidates,
  TokenLogprob,
  TokenName,
  TokenShift,
} from "./token-details.ts";

const { model, steering, webhook, deadline, start_by, priority, metadata, user } = generationFields;

const completion = field(
  Prompt,
  "The text to score, which follows the prompt, or its token ids. A text is tokenized by the base's tokenizer, separately from the prompt. No token is added, and a special token that is written out, such as `<eos>`, is read as that token. Prompt and completion must fit the context length together.",
  { examples: ["Paris"] },
);
const completions = field(
  v.pipe(v.array(Prompt), v.minLength(1), v.maxLength(LIMITS.jobsPerRequestMax)),
  "Several texts, each of which is scored after the same prompt: the choices of a question.",
  { examples: [["Paris", "London"]] },
);

const Candidates = v.union(
  [
    requestObject({
      top: field(integer(1, LIMITS.candidatesMax), "How many of the likeliest tokens to report."),
    }),
    requestObject({
      ids: field(
        v.pipe(v.array(integer(0, 2 ** 31 - 1)), v.minLength(1), v.maxLength(LIMITS.candidatesMax)),
        "The token ids to report.",
      ),
    }),
  ],
  `Expected {"top": n} or {"ids": [...]} with at most ${LIMITS.candidatesMax} tokens`,
);

const scoreFields = {
  model,
  steering,
  top_logprobs: optional(
    topLogprobs,
    "How many of the likeliest tokens to report at each position.",
    { default: 0 },
  ),
  candidates: optional(
    Candidates,
    "Also reports the log-probabilities of these tokens at each position, in the steered distribution and without texts: what a model that is trained towards that distribution needs. The default is none.",
    { examples: [{ top: 64 }] },
  ),
  webhook,
  deadline,
  start_by,
  priority,
  metadata,
  user,
};

/** A text to score as a job: `POST /v1/jobs`, for callers that do not want to wait for the score, and `POST /v1/score`. */
export const ScoreRequest = v.pipe(
  requestObject({ ...scoreFields, ...inputFields, completion }),
  v.forward(
    v.check((request) => hasOneInput(request), ONE_INPUT_MESSAGE),
    ["messages"],
  ),
);
export type ScoreRequest = v.InferOutput<typeof ScoreRequest>;

const ScoredInput = v.pipe(
  requestObject({ ...inputFields, completions }),
  v.forward(
    v.check((request) => hasOneInput(request), ONE_INPUT_MESSAGE),
    ["messages"],
  ),
);

/** Several completions of one prompt: `POST /v1/score`. */
export const ChoicesScoreRequest = v.pipe(
  requestObject({ ...scoreFields, ...inputFields, completions }),
  v.forward(
    v.check((request) => hasOneInput(request), ONE_INPUT_MESSAGE),
    ["messages"],
  ),
);
export type ChoicesScoreRequest = v.InferOutput<typeof ChoicesScoreRequest>;

/** Completions of several prompts: `POST /v1/score`. */
export const TextsScoreRequest = requestObject({
  ...scoreFields,
  inputs: field(
    v.pipe(v.array(ScoredInput), v.minLength(1), v.maxLength(LIMITS.jobsPerRequestMax)),
    `Prompts, each with its completions. All together have at most ${LIMITS.jobsPerRequestMax} completions.`,
    { examples: [[{ prompt: "The capital of France is", completions: [" Paris", " London"] }]] },
  ),
});
export type TextsScoreRequest = v.InferOutput<typeof TextsScoreRequest>;

export const ScoreTotals = v.strictObject({
  base: field(v.number(), "Under the base model, in nats.", { examples: [-4.6052] }),
  expert: field(
    v.nullable(v.number()),
    "Under the expert, in nats. Null if the expert is not run.",
  ),
  antiexpert: field(
    v.nullable(v.number()),
    "Under the antiexpert, in nats. Null if the antiexpert is not run.",
  ),
  steered: field(v.number(), "In the steered distribution, in nats.", { examples: [-0.2107] }),
});
export type ScoreTotals = Reply<typeof ScoreTotals>;

/** One token of the scored text. `base_token` is the token that the base finds likeliest. */
export const ScoredToken = v.strictObject({
  ...TokenShift.entries,
  ...TokenName.entries,
  ...roleLogprobs,
  top: field(
    TokenLogprob.entries.top,
    "The likeliest tokens at this position in the steered distribution, the likeliest first.",
  ),
  candidates: field(
    v.exactOptional(TokenCandidates),
    "The candidates at this position. Present only if the request asks for them.",
  ),
});
export type ScoredToken = Reply<typeof ScoredToken>;

export const Score = v.strictObject({
  id: field(v.string(), "The id of the job that scored the text."),
  object: field(v.literal("score"), "The type of this object: `score`."),
  created: field(count, "When the job was submitted, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  model: field(v.string(), "The model that scored the text.", { examples: ["atlas-qa"] }),
  text: field(v.string(), "The completion as text, without special tokens.", {
    examples: ["Paris"],
  }),
  tokens: field(v.array(ScoredToken), "The completion's tokens, in order."),
  sum: field(ScoreTotals, "The sums of the tokens' log-probabilities."),
  mean: field(
    ScoreTotals,
    "The means of the tokens' log-probabilities: exp(-mean) is the perplexity.",
  ),
  usage: field(Usage, "The tokens that the job used."),
});
export type Score = Reply<typeof Score>;

export const ScoreList = v.strictObject({
  object: field(v.literal("list"), "The type of this object: `list`."),
  model: field(v.string(), "The model that scored the texts.", { examples: ["atlas-qa"] }),
  data: field(v.array(Score), "The scores, in the order of the prompts and of their completions."),
  usage: field(Usage, "The tokens that all scores used. The prompt of each counts."),
});
export type ScoreList = Reply<typeof ScoreList>;
