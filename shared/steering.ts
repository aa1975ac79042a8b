/** From what a request says of steering to what the worker does, within the bounds of the ensembles that it names. */
import type { JobRequest } from "./contract.ts";
import { AppError } from "./errors.ts";
import type { Generation, ModelCard } from "./job.ts";
import type { KeyLimits } from "./policy.ts";

type SteeringRequest = JobRequest["steering"];
type Steering = Pick<Generation, "alpha" | "schedule" | "guards" | "pairs">;

/** A pair that a request names, and the ensemble that it is of. */
export interface NamedPair {
  readonly card: ModelCard;
  readonly weight: number;
}

/**
 * @param card the request's own ensemble, whose base is steered
 * @param pairs what steers it, where that is not the ensemble's own pair
 * @param limits of the API key
 * @throws AppError invalid_request
 */
export function steeringOf(
  request: SteeringRequest,
  card: ModelCard,
  pairs: readonly NamedPair[] | null,
  limits: KeyLimits,
): Steering {
  const schedule = request?.schedule;
  const alphas = schedule?.map(([, alpha]) => alpha) ?? [request?.alpha ?? card.alphaDefault];
  if (pairs) checkPairs(pairs, card, alphas, limits);
  else checkAlphas(alphas, rangeOf(card, limits), schedule != null);
  const { base_nucleus, kl_budget, fallback } = request?.guards ?? {};
  const guards = {
    ...(base_nucleus != null && { baseNucleus: base_nucleus }),
    ...(kl_budget != null && { klBudget: kl_budget }),
    ...(fallback != null && { fallback }),
  };
  return {
    alpha: alphas.reduce((most, alpha) => (Math.abs(alpha) > Math.abs(most) ? alpha : most)),
    ...(schedule && { schedule }),
    ...(Object.keys(guards).length > 0 && { guards }),
    ...(pairs && { pairs: pairs.map(({ card: { id }, weight }) => ({ model: id, weight })) }),
  };
}

interface Range {
  readonly min: number;
  readonly max: number;
  readonly of: "model" | "API key";
}

/** Only a key's policy goes below 0 or beyond the ensemble: what strengthens a tuning can also strip it off. */
function rangeOf(card: ModelCard, { alpha }: KeyLimits): Range {
  return alpha ? { ...alpha, of: "API key" } : { min: 0, max: card.alphaMax, of: "model" };
}

const isOutside = (value: number, { min, max }: Range) => value < min || value > max;

function checkAlphas(alphas: readonly number[], range: Range, isSchedule: boolean): void {
  const outside = alphas.findIndex((alpha) => isOutside(alpha, range));
  if (outside === -1) return;
  const param = isSchedule ? `steering.schedule.${outside}.1` : "steering.alpha";
  const message = `${param} must be from ${range.min} to ${range.max} with this ${range.of}, received ${alphas[outside]}`;
  throw new AppError("invalid_request", message, { param });
}

/** Each pair is of an ensemble over the same base, whose range holds for what alpha and weight come to together. */
function checkPairs(
  pairs: readonly NamedPair[],
  own: ModelCard,
  alphas: readonly number[],
  limits: KeyLimits,
): void {
  for (const [i, { card, weight }] of pairs.entries()) {
    const field = `steering.pairs.${i}`;
    if (card.base !== own.base || card.vocabSize !== own.vocabSize) {
      const param = `${field}.model`;
      const message = `${param} must be an ensemble over the base of ${own.id}: ${card.id} is over another`;
      throw new AppError("invalid_request", message, { param });
    }
    const range = rangeOf(card, limits);
    const outside = alphas.find((alpha) => isOutside(alpha * weight, range));
    if (outside !== undefined) {
      const param = `${field}.weight`;
      const message = `${param} times alpha must be from ${range.min} to ${range.max} with this ${range.of}, received ${weight} times ${outside}`;
      throw new AppError("invalid_request", message, { param });
    }
  }
}
