/**
 * Tokens beyond the most likely ones, from llama.cpp. `post_sampling_probs` gives the distribution that the server draws from, and so
 * with a logit bias that of lifted tokens. What the bias has done is then taken back.
 *
 * Rows: let p be the base's probabilities, b the biases (0 for other tokens), and q = p * e^b / Z the told ones. The list has the k
 * largest q. If no lifted token is part of r = 1 - (sum of q over the list), then 1 / Z = (sum of q * e^-b) + r, which gives
 * p = q * e^-b * Z. With f the last q of the list, an unlisted token has p <= f * e^-b * Z: a lifted one is b nats below the others.
 * Lifted tokens in r make 1 / Z too large, and all these p too small by one factor, with f and r * Z: a draw depends on ratios only. An
 * error of q is one of p times Z.
 */
import { BaseRow, InvalidRow, type TokenLogprob } from "../base-row.ts";
import type { IdsQuery } from "../api.ts";

/**
 * Single ids are asked for by a bias that lifts them above all other tokens; among them, ratios of probabilities stay. Less likely ones
 * than exp(-LIFT) are not lifted that far, and do not come. A larger bias would cost digits: logits are float32.
 */
const LIFT = 40;
export const IDS_MAX = 128;
/** Biases of one call. */
export const LIFT_MAX = 256;
/** Logarithm of the smallest probability that is told. */
const LOGPROB_MIN = -87;

export interface LiftedPosition {
  readonly top_probs?: readonly { readonly id: number; readonly prob: number }[];
}

interface LiftedCompletion {
  readonly tokens_evaluated: number;
  readonly completion_probabilities: readonly LiftedPosition[];
}

export function liftingBody(lifts: ReadonlyMap<number, number>): object {
  return { logit_bias: [...lifts], post_sampling_probs: true };
}

/** @throws InvalidRow */
export function liftedRow(
  [position]: readonly LiftedPosition[],
  top: number,
  lifts: ReadonlyMap<number, number>,
  vocabSize: number,
): BaseRow {
  const told = position?.top_probs ?? [];
  if (told.length !== Math.min(top, vocabSize)) {
    throw new InvalidRow(`${top} tokens were asked for, and ${told.length} came`);
  }
  let [mass, sum] = [0, 0];
  for (const { id, prob } of told) {
    mass += prob;
    sum += prob * Math.exp(-(lifts.get(id) ?? 0));
  }
  // 1 / Z
  sum += Math.max(0, 1 - mass);
  const logprobOf = (prob: number) => Math.max(LOGPROB_MIN, Math.log(prob)) - Math.log(sum);
  const entries = told.map(({ id, prob }): TokenLogprob => {
    return [id, logprobOf(prob) - (lifts.get(id) ?? 0)];
  });
  entries.sort(([, a], [, b]) => b - a);
  const floor = Math.min(0, ...told.map(({ prob }) => logprobOf(prob)));
  // No unseen token is more likely than those above the floor, as in a list without lifts.
  const count = Math.max(1, entries.filter(([, logprob]) => logprob >= floor).length);
  const below = new Map(lifts);
  for (const [id] of entries) below.delete(id);
  const details = { topCount: top, floor, below, scale: 1 / sum };
  return new BaseRow(vocabSize, entries.slice(0, count), entries.slice(count), details);
}

/** The known token is lifted too: the others' probabilities are told as ratios to it. */
export function idsBody(
  { context, slot, ids, known: [known] }: IdsQuery,
  wholeToken: number | null,
) {
  const lifted = [...new Set([known, ...ids])];
  // Twice as far, so that it is drawn; unless its own probability is asked for.
  const drawn = wholeToken !== null && !lifted.includes(wholeToken) ? [[wholeToken, 2 * LIFT]] : [];
  return {
    prompt: [context],
    n_predict: 1,
    n_probs: lifted.length + drawn.length,
    temperature: 1,
    samplers: ["temperature"],
    logit_bias: [...lifted.map((id) => [id, LIFT]), ...drawn],
    cache_prompt: true,
    ...(typeof slot === "number" && { id_slot: slot }),
    post_sampling_probs: true,
    response_fields: ["tokens_evaluated", "completion_probabilities"],
  };
}

export function parseIds(reply: unknown, { context, ids, known }: IdsQuery): TokenLogprob[] {
  const [completion] = [reply].flat() as LiftedCompletion[];
  const { tokens_evaluated, completion_probabilities } = completion!;
  if (tokens_evaluated !== context.length) {
    throw new InvalidRow(`a row of ${tokens_evaluated} tokens came for ${context.length}`);
  }
  const told = new Map(completion_probabilities[0]!.top_probs!.map(({ id, prob }) => [id, prob]));
  const [id, logprob] = known;
  const reference = told.get(id);
  if (!reference) throw new InvalidRow(`token ${id} was asked for by its id, and did not come`);
  return ids.map((asked) => {
    const prob = told.get(asked) ?? 0;
    const ratio = Math.log(prob / reference);
    return [asked, Math.max(-LIFT, logprob + ratio)];
  });
}
