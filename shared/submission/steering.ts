/** Checks the steering fields of a request against the ensembles that it names, and converts them for the worker. */
import type { JobRequest } from "../api/jobs.ts";
import { AppError } from "../api/errors.ts";
import type { Generation } from "../jobs/record.ts";
import type { ModelCard } from "../workers/model-card.ts";
import type { KeyLimits } from "../api/keys.ts";

type SteeringRequest = JobRequest["steering"];
export type GenerationSteering = Pick<
  Generation,
  | "alpha"
  | "schedule"
  | "guards"
  | "gate"
  | "pairs"
  | "pairConflicts"
  | "baseErrorMax"
  | "baseErrorAction"
>;

/** An expert/antiexpert pair of a request, with the ensemble that it belongs to. */
export interface ResolvedPair {
  readonly card: ModelCard;
  readonly weight: number;
}

/**
 * The steering of a generation.
 * @param card the request's model: the ensemble whose base is steered
 * @param pairs the pairs that steer it; null for the ensemble's own pair
 * @param limits of the API key
 * @throws AppError invalid_request
 */
export function requestSteering(
  request: SteeringRequest,
  card: ModelCard,
  pairs: readonly ResolvedPair[] | null,
  limits: KeyLimits,
): GenerationSteering {
  const schedule = request?.schedule;
  const alphas = schedule?.map(([, alpha]) => alpha) ?? [request?.alpha ?? card.alphaDefault];
  if (pairs) checkPairs(pairs, card, alphas, limits);
  else checkAlphas(alphas, alphaRange(card, limits), schedule != null);
  const guards = requestGuards(request?.guards);
  return {
    alpha: alphas.reduce((largest, alpha) =>
      Math.abs(alpha) > Math.abs(largest) ? alpha : largest,
    ),
    ...(schedule && { schedule }),
    ...(Object.keys(guards).length > 0 && { guards }),
    ...(request?.gate && { gate: requestGate(request.gate) }),
    ...baseErrorLimits(request),
    ...(pairs && requestPairs(pairs, request)),
  };
}

function requestPairs(pairs: readonly ResolvedPair[], request: SteeringRequest) {
  // With one pair there are no conflicts.
  const isElected = pairs.length > 1 && request?.pair_conflicts === "elect";
  return {
    pairs: pairs.map(({ card: { id }, weight }) => ({ model: id, weight })),
    ...(isElected && { pairConflicts: "elect" as const }),
  };
}

/** Only what differs from the default: older workers run the other jobs. */
function baseErrorLimits(request: SteeringRequest) {
  return {
    ...(request?.base_error_max && { baseErrorMax: request.base_error_max }),
    ...(request?.base_error_action === "base" && { baseErrorAction: "base" as const }),
  };
}

function requestGuards(request: NonNullable<SteeringRequest>["guards"]) {
  const { base_nucleus, kl_budget, fallback } = request ?? {};
  return {
    ...(base_nucleus != null && { baseNucleus: base_nucleus }),
    ...(kl_budget != null && { klBudget: kl_budget }),
    ...(fallback != null && { fallback }),
  };
}

function requestGate({
  min_entropy,
  max_margin,
}: NonNullable<NonNullable<SteeringRequest>["gate"]>) {
  return {
    ...(min_entropy != null && { minEntropy: min_entropy }),
    ...(max_margin != null && { maxMargin: max_margin }),
  };
}

/** The allowed values of alpha, and what sets them. */
interface AlphaRange {
  readonly min: number;
  readonly max: number;
  readonly setBy: "model" | "API key";
}

/**
 * Only the policy of an API key allows values below 0 or above the ensemble's maximum: with them, steering can also remove
 * what tuning has added, such as safety training.
 */
function alphaRange(card: ModelCard, { alpha }: KeyLimits): AlphaRange {
  return alpha ? { ...alpha, setBy: "API key" } : { min: 0, max: card.alphaMax, setBy: "model" };
}

const isOutside = (value: number, { min, max }: AlphaRange) => value < min || value > max;

function checkAlphas(alphas: readonly number[], range: AlphaRange, isSchedule: boolean): void {
  const outside = alphas.findIndex((alpha) => isOutside(alpha, range));
  if (outside === -1) return;
  const param = isSchedule ? `steering.schedule.${outside}.1` : "steering.alpha";
  const message = `${param} must be from ${range.min} to ${range.max} with this ${range.setBy}, received ${alphas[outside]}`;
  throw new AppError("invalid_request", message, { param });
}

/** Each pair must have the same base as the request's model, and alpha times its weight must be in its ensemble's range. */
function checkPairs(
  pairs: readonly ResolvedPair[],
  model: ModelCard,
  alphas: readonly number[],
  limits: KeyLimits,
): void {
  for (const [i, { card, weight }] of pairs.entries()) {
    const field = `steering.pairs.${i}`;
    if (card.base !== model.base || card.vocabSize !== model.vocabSize) {
      const param = `${field}.model`;
      const message = `${param} must have the same base as ${model.id}; ${card.id} has another base`;
      throw new AppError("invalid_request", message, { param });
    }
    const range = alphaRange(card, limits);
    const outside = alphas.find((alpha) => isOutside(alpha * weight, range));
    if (outside !== undefined) {
      const param = `${field}.weight`;
      const message = `${param} times alpha must be from ${range.min} to ${range.max} with this ${range.setBy}, received ${weight} times ${outside}`;
      throw new AppError("invalid_request", message, { param });
    }
  }
}
