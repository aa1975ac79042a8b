/** The queue as callers see it: a job's place and the estimate of its start, and the quote for a job before it is submitted. */
import * as v from "valibot";
import { KeyLimits } from "./keys.ts";
import { count, field, type Reply } from "./schema.ts";

export const Eta = v.strictObject({
  p50: field(v.number(), "Median estimate of the seconds until the job starts.", {
    examples: [2.5],
  }),
  p90: field(v.number(), "Seconds within which the job starts with a probability of 90 %.", {
    examples: [6],
  }),
});
export type Eta = Reply<typeof Eta>;

/**
 * An estimate among the jobs that need the same models: later jobs may start earlier, and waiting ones may be cancelled. If more
 * than eight other tenants are ahead, eight of them stand for all.
 */
export const QueuePlace = v.strictObject({
  position: field(
    v.pipe(v.number(), v.integer(), v.minValue(1)),
    "The job's estimated position among the waiting jobs that need the same models. 1 starts next.",
  ),
  tokens_ahead: field(
    count,
    "The most tokens that the jobs ahead of it can take, prompts included; an estimate.",
    { examples: [2048] },
  ),
  eta: field(
    v.nullable(Eta),
    "Estimated seconds until the job starts. Only workers that serve the job's models count. Null while there is none, and while none of them has measured its speed.",
  ),
  reason: field(
    v.nullable(v.picklist(["no_worker", "base_away", "paused"])),
    "Why the job cannot start at present, although it is accepted. `no_worker`: no live worker serves all models of the job. `base_away`: workers serve them, but a base on another server does not answer any of them. `paused`: the operator has paused one of the models. It waits until one can run it, or until its deadline. Null: a worker can run it.",
  ),
});
export type QueuePlace = Reply<typeof QueuePlace>;

/** `POST /v1/jobs/quote`: the queue as a job submitted now would find it. */
export const Quote = v.strictObject({
  object: field(v.literal("quote"), "The type of this object: `quote`."),
  model: field(v.string(), "The model of the request.", { examples: ["atlas-qa"] }),
  prompt_tokens: field(
    count,
    "Tokens of the prompt. Only workers have the tokenizer, so for a text this is an estimate of four characters a token.",
    { examples: [24] },
  ),
  prompt_tokens_exact: field(
    v.boolean(),
    "Whether `prompt_tokens` is exact, as for a prompt of token ids, or an estimate.",
  ),
  max_tokens: field(count, "The most tokens that the job can generate.", { examples: [256] }),
  queue: field(QueuePlace, "The place in the queue that the job would have."),
  limits: field(KeyLimits, "The limits of the request's API key."),
});
export type Quote = Reply<typeof Quote>;
