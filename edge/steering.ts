/** From what a request says of steering to what the worker does, within the bounds of the ensembles that it names. */
import type { JobRequest } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { Generation, ModelCard } from "../shared/job.ts";

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
 * @throws AppError invalid_request
 */
export function steeringOf(
  request: SteeringRequest,
  card: ModelCard,
  pairs: readonly NamedPair[] | null,
): Steering {
  const schedule = request?.schedule;
  const alphas = schedule?.map(([, alpha]) => alpha) ?? [request?.alpha ?? card.alphaDefault];
  const alpha = Math.max(...alphas);
  if (pairs) checkPairs(pairs, card, alpha);
  else checkAlphas(alphas, card, schedule != null);
  const { base_nucleus, kl_budget, fallback } = request?.guards ?? {};
  const guards = {
    ...(base_nucleus != null && { baseNucleus: base_nucleus }),
    ...(kl_budget != null && { klBudget: kl_budget }),
    ...(fallback != null && { fallback }),
  };
  return {
    alpha,
    ...(schedule && { schedule }),
    ...(Object.keys(guards).length > 0 && { guards }),
    ...(pairs && { pairs: pairs.map(({ card: { id }, weight }) => ({ model: id, weight })) }),
  };
}

function checkAlphas(alphas: readonly number[], card: ModelCard, isSchedule: boolean): void {
  const tooLarge = alphas.findIndex((alpha) => alpha > card.alphaMax);
  if (tooLarge === -1) return;
  const param = isSchedule ? `steering.schedule.${tooLarge}.1` : "steering.alpha";
  const message = `${param} must be at most ${card.alphaMax} with this model, received ${alphas[tooLarge]}`;
  throw new AppError("invalid_request", message, { param });
}

/** Each pair is of an ensemble over the same base, whose bound holds for what alpha and weight come to together. */
function checkPairs(pairs: readonly NamedPair[], own: ModelCard, alpha: number): void {
  for (const [i, { card, weight }] of pairs.entries()) {
    const field = `steering.pairs.${i}`;
    if (card.base !== own.base || card.vocabSize !== own.vocabSize) {
      const param = `${field}.model`;
      const message = `${param} must be an ensemble over the base of ${own.id}: ${card.id} is over another`;
      throw new AppError("invalid_request", message, { param });
    }
    if (alpha * weight > card.alphaMax) {
      const param = `${field}.weight`;
      const message = `${param} times alpha must be at most ${card.alphaMax} with this model, received ${weight} times ${alpha}`;
      throw new AppError("invalid_request", message, { param });
    }
  }
}
