/** Details of tokens: log-probabilities and the steering trace, in a job's events and in replies. */
import * as v from "valibot";
import { count, field, type Reply } from "./schema.ts";

const tokenName = {
  id: field(count, "The token's id in the vocabulary of the base model.", { examples: [6342] }),
  token: field(
    v.string(),
    "The token's text. Bytes that are not whole characters are written as `\\xf0\\x9f`.",
    { examples: [" Paris"] },
  ),
  bytes: field(
    v.exactOptional(v.array(count)),
    "The token's bytes, each 0 to 255. Present only if the token is not made of whole characters.",
  ),
};

/** A token by id and text. */
export const TokenName = v.strictObject(tokenName);
export type TokenName = Reply<typeof TokenName>;

const LOGPROB_NOTE = "in nats, rounded to four decimals; -9999 means practically impossible";

/** A token with its log-probability. */
export const LikelyToken = v.strictObject({
  ...tokenName,
  logprob: field(
    v.number(),
    `The token's log-probability in the steered distribution, ${LOGPROB_NOTE}.`,
    {
      examples: [-0.1054],
    },
  ),
});

/** A generated token with its log-probability, and the likeliest tokens at its position. */
export const TokenLogprob = v.strictObject({
  ...tokenName,
  logprob: field(
    v.number(),
    `The token's log-probability, ${LOGPROB_NOTE}. It is taken from the steered distribution: after combining the models and after the guards, before penalties, bias, temperature and truncation.`,
    { examples: [-0.1054] },
  ),
  top: field(
    v.array(LikelyToken),
    "The likeliest tokens at this position, the likeliest first: as many as the request asks for.",
  ),
});
export type TokenLogprob = Reply<typeof TokenLogprob>;

/** A token of the prompt. */
export const PromptTokenLogprob = v.strictObject({
  ...tokenName,
  logprob: field(
    v.nullable(v.number()),
    `The token's log-probability in the steered distribution, ${LOGPROB_NOTE}. Null for the first token, which follows none, and for further tokens at the beginning if the prompts of base, expert and antiexpert differ there.`,
    { examples: [-0.1054] },
  ),
  rank: field(
    v.nullable(v.number()),
    "The token's place among all tokens by probability, from 1. Null without a log-probability.",
    { examples: [1] },
  ),
  top: field(
    v.array(LikelyToken),
    "The likeliest tokens at this position, the likeliest first: as many as the request asks for.",
  ),
});
export type PromptTokenLogprob = Reply<typeof PromptTokenLogprob>;

/** A token whose probability steering changed. */
export const ShiftedToken = v.strictObject({
  ...tokenName,
  change: field(
    v.number(),
    "The token's probability under the steered distribution minus its probability under the base, -1 to 1.",
    { examples: [0.4127] },
  ),
});

export const roleLogprobs = {
  base: field(v.number(), "The token's log-probability under the base model, in nats.", {
    examples: [-2.3026],
  }),
  expert: field(
    v.nullable(v.number()),
    "The token's log-probability under the expert, in nats; of several pairs, their weighted mean. Null if the expert is not run.",
  ),
  antiexpert: field(
    v.nullable(v.number()),
    "The token's log-probability under the antiexpert, in nats; of several pairs, their weighted mean. Null if the antiexpert is not run.",
  ),
  steered: field(v.number(), "The token's log-probability in the steered distribution, in nats.", {
    examples: [-0.1054],
  }),
};

/** How steering changes one token. */
export const TokenShift = v.strictObject({
  id: field(count, "The token's id in the vocabulary of the base model."),
  alpha: field(
    v.number(),
    "The steering strength at this token, after the schedule, the gate and the guards are applied.",
    { examples: [1] },
  ),
  ...roleLogprobs,
  gain: field(v.number(), "`steered` minus `base`, in nats: how much steering favours this token."),
  kl: field(
    v.number(),
    "The Kullback-Leibler divergence KL(steered || base) at this position, in nats, 0 or more.",
  ),
  same: field(
    v.boolean(),
    "Whether the base alone would choose the same token here, under the same seed and sampling.",
  ),
  base_token: field(TokenName, "The token that the base alone would choose here."),
  promoted: field(
    v.array(ShiftedToken),
    "The tokens whose probability steering raises most, the largest change first: at most three.",
  ),
  demoted: field(
    v.array(ShiftedToken),
    "The tokens whose probability steering lowers most, the largest change first: at most three.",
  ),
  drafted: field(
    v.exactOptional(v.literal(true)),
    "Present if the token had been drafted and the draft was right, which saves runs of the models. Drafts never change the tokens; which of them are drafted depends on what else runs, so it may differ when a request is repeated.",
  ),
  masked: field(
    v.exactOptional(v.number()),
    "The probability, 0 to 1, that the steered distribution gives to tokens that the response format or the tools forbid here. Present only with a response format or tools.",
  ),
  base_error: field(
    v.exactOptional(v.number()),
    "The bound of the total variation distance to the distribution that the base's whole one gives, 0 to 1; 0 if the token is proven. Present only if the base is on another server: the other values of this entry are then computed with equal shares for the tokens that it did not tell.",
  ),
});
export type TokenShift = Reply<typeof TokenShift>;

/** Tokens at a position with their log-probabilities, without texts. */
export const TokenCandidates = v.strictObject({
  ids: field(
    v.exactOptional(v.array(count)),
    "The ids of the likeliest tokens, the likeliest first. Absent if the request names the tokens: then they are in its order.",
    { examples: [[6342, 13]] },
  ),
  logprobs: field(
    v.array(v.number()),
    `The tokens' log-probabilities in the steered distribution, ${LOGPROB_NOTE}.`,
    { examples: [[-0.1054, -2.4079]] },
  ),
});
export type TokenCandidates = Reply<typeof TokenCandidates>;

/** Details of several tokens in an event or a job's output: one entry for each token, in order. */
export const tokenDetails = {
  prompt_logprobs: field(
    v.exactOptional(v.array(PromptTokenLogprob)),
    "Log-probabilities of the prompt: one entry for each token of the base's prompt, in order, before any token of the output. Present only if the request asks for them.",
  ),
  logprobs: field(
    v.exactOptional(v.array(TokenLogprob)),
    "Log-probabilities: one entry for each token, in order, but none for an end-of-sequence token. Present only if the request asks for log-probabilities.",
  ),
  trace: field(
    v.exactOptional(v.array(TokenShift)),
    "The steering trace: one entry for each token, in order. Present only if the request sets `steering.trace`.",
  ),
};
export const candidateDetails = {
  candidates: field(
    v.exactOptional(v.array(TokenCandidates)),
    "The candidates of a score: one entry for each token, in order. Present only if the request asks for them.",
  ),
};
export const maskedShares = {
  masked: field(
    v.exactOptional(v.array(v.number())),
    "For each token, the probability, 0 to 1, that the steered distribution gives to tokens that the response format or the tools forbid there. Present only with a response format or tools.",
  ),
};
export type TokenDetails = Reply<
  v.StrictObjectSchema<
    typeof tokenDetails & typeof candidateDetails & typeof maskedShares,
    undefined
  >
>;

/** Entries that a trace has for each token: the token, the base's token, three promoted and three demoted tokens. */
export const TRACE_ENTRIES_PER_TOKEN = 8;
/** Entries that this many candidates count as: they have no texts. */
export const candidateEntries = (candidates = 0) => Math.ceil(candidates / 3);

/** The details of one token. */
export interface TokenDetail {
  /** Only for tokens of the prompt, which have nothing else and are no output. */
  readonly prompt?: PromptTokenLogprob;
  readonly logprobs?: TokenLogprob;
  readonly trace?: TokenShift;
  readonly masked?: number;
  readonly candidates?: TokenCandidates;
}

/** Joins the details of successive tokens. */
export function collectTokenDetails(tokens: readonly TokenDetail[]): TokenDetails {
  return joinTokenDetails(
    tokens.map(({ prompt, logprobs, trace, candidates, masked }) => ({
      ...(candidates && { candidates: [candidates] }),
      ...(prompt && { prompt_logprobs: [prompt] }),
      ...(logprobs && { logprobs: [logprobs] }),
      ...(trace && { trace: [trace] }),
      ...(masked !== undefined && { masked: [masked] }),
    })),
  );
}

/** Joins the details of successive runs of tokens. */
export function joinTokenDetails(parts: readonly TokenDetails[]): TokenDetails {
  const prompt = parts.flatMap((part) => part.prompt_logprobs ?? []);
  const logprobs = parts.flatMap((part) => part.logprobs ?? []);
  const trace = parts.flatMap((part) => part.trace ?? []);
  const candidates = parts.flatMap((part) => part.candidates ?? []);
  const masked = parts.flatMap((part) => part.masked ?? []);
  return {
    ...(prompt.length > 0 && { prompt_logprobs: prompt }),
    ...(logprobs.length > 0 && { logprobs }),
    ...(trace.length > 0 && { trace }),
    ...(candidates.length > 0 && { candidates }),
    ...(masked.length > 0 && { masked }),
  };
}
