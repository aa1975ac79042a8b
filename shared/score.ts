/** The wire contract of scoring: how likely a given text is under each model of an ensemble, and under them together. */
import * as v from "valibot";
import { generation, isOneInput, messages, ONE_INPUT, prompt, topLogprobs } from "./contract.ts";
import type { Usage } from "./contract.ts";
import type { TokenLogprob, TokenName, TokenShift } from "./reports.ts";

/** `POST /v1/score`, and `POST /v1/jobs` for who does not want to wait. */
export const ScoreRequest = v.pipe(
  v.strictObject({
    model: generation.model,
    messages: v.optional(messages),
    prompt: v.optional(prompt),
    /** What follows the prompt: a text, as the base's tokenizer reads it by itself, or token ids. */
    completion: prompt,
    steering: generation.steering,
    top_logprobs: topLogprobs,
    webhook: generation.webhook,
    deadline: generation.deadline,
    start_by: generation.start_by,
    priority: generation.priority,
    metadata: generation.metadata,
    user: generation.user,
  }),
  v.forward(
    v.check((request) => isOneInput(request), ONE_INPUT),
    ["messages"],
  ),
);
export type ScoreRequest = v.InferOutput<typeof ScoreRequest>;

/** Log-probabilities in nats; null where a model was not run. */
export interface ScoreTotals {
  readonly base: number;
  readonly expert: number | null;
  readonly antiexpert: number | null;
  readonly steered: number;
}

/** What is told of one token of the completion. */
export interface ScoredToken extends TokenName, TokenShift {
  /** The likeliest tokens at its place in the steered distribution. */
  readonly top: TokenLogprob["top"];
}

export interface Score {
  /** The job that found it out. */
  readonly id: string;
  readonly object: "score";
  readonly created: number;
  readonly model: string;
  /** The completion as text, special tokens left out. */
  readonly text: string;
  readonly tokens: readonly ScoredToken[];
  /** Over the tokens. */
  readonly sum: ScoreTotals;
  /** Over the tokens: exp(-mean) is the perplexity. */
  readonly mean: ScoreTotals;
  readonly usage: Usage;
}
