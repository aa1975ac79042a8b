/**
 * Decides whether a token that was drawn with a remote base's row is proven, and what must be known otherwise. The proof is
 * decode/certificate.ts; here are the guards, which depend on the base's whole distribution.
 *
 * - `fallback` compares expert and antiexpert, which are known.
 * - `base_nucleus` p: if the list of most likely tokens has at least the mass p, the nucleus is a part of it, and unseen tokens
 *   are masked. Nothing else has to be proven about them. Otherwise the whole list is in the nucleus, and any other token may be
 *   in it or not: it has at most its upper bound, also if its log-probability was asked for.
 * - `kl_budget` makes alpha depend on every token. Its alpha is taken from the row with the rest shared equally, and the
 *   token counts as proven only if the unseen tokens change the divergence by less than KL_NEGLIGIBLE. Otherwise there is no
 *   bound of the error either, as the exact alpha may be any up to the request's.
 */
import { maskOutside } from "../decode/border.ts";
import { certify, type Certificate, type PartialDraw } from "../decode/certificate.ts";
import { combineLogits } from "../decode/combine.ts";
import { maxOf } from "../decode/exp.ts";
import { nucleus } from "../decode/truncate.ts";
import { unseenWeightMax } from "../decode/unseen-weight.ts";
import type { BaseRow } from "../remote/base-row.ts";
import type { Decision, Sequence } from "./sequence.ts";

/** A share of the divergence that moves the alpha of a KL budget by less than the solver's own tolerance. */
const KL_NEGLIGIBLE = 1e-5;
/** Log-probabilities are told with four decimals: a smaller error of the normaliser does not show. */
const NORMALISER_NEGLIGIBLE = 5e-5;

export interface RowCertificate extends Certificate {
  /** Whether a longer list is needed, because ids do not help. */
  readonly deeper: boolean;
  /**
   * Bound of the total variation distance between the sampled distribution and the exact one, before truncation; 0 if the
   * token is proven. Greedy: of the distributions at temperature 1.
   */
  readonly errorMax: number;
}

const PROVEN: RowCertificate = { certified: true, ask: [], deeper: false, errorMax: 0 };

/**
 * @param decision made with `row.fill`
 * @param upper [V] overwritten
 * @param isBaseAlone whether the decision was made with the base alone, whatever alpha and guards are
 */
export function certifyDecision(
  sequence: Sequence,
  decision: Decision,
  row: BaseRow,
  upper: Float32Array,
  isBaseAlone = false,
): RowCertificate {
  if (row.restMax === 0) return PROVEN;
  const place = placeOfNucleus(sequence, row);
  const isSteered = fillSteered(decision, row, upper);
  if (isSteered && place === "in the list") {
    const { baseNucleus = 1 } = sequence.request.guards!;
    maskOutside(upper, decision.models.base, nucleus(decision.models.base, baseNucleus));
  }
  const isBeyond = isSteered && place === "beyond the list";
  const isSeen = (id: number) => (isBeyond ? row.isListed(id) : row.seen.has(id));
  const draw = drawOf(sequence, decision.token, row, upper, isSeen);
  const certificate = certify(draw);
  const [nucleusDecided, budgetDecided] =
    isBaseAlone || place === "in the list" ? [true, true] : decidedGuards(sequence, decision, row);
  // Asking again for a token whose value is known tells nothing about its place in the nucleus.
  const ask = isBeyond ? certificate.ask.filter((id) => !row.seen.has(id)) : certificate.ask;
  const isOpen = !certificate.certified && ask.length === 0;
  const deeper = !nucleusDecided || !budgetDecided || isOpen;
  if (certificate.certified && !deeper) return PROVEN;
  return {
    certified: false,
    ask,
    deeper,
    // Computed if nothing more can be asked for: it costs more than the proof.
    get errorMax() {
      return budgetDecided ? errorMaxOf(draw) : 1;
    },
  };
}

/** Where the tokens of the base nucleus are; null without one. */
function placeOfNucleus(
  { request: { guards } }: Sequence,
  row: BaseRow,
): "in the list" | "beyond the list" | null {
  const { baseNucleus = 1 } = guards ?? {};
  if (baseNucleus === 1) return null;
  return row.topMass >= baseNucleus ? "in the list" : "beyond the list";
}

/**
 * A forced token needs no proof, only its own log-probability. That is exact up to the normaliser of the steered distribution,
 * of which the unseen tokens are a part: with W the weight of the seen tokens and at most U of the unseen ones, the error is
 * at most log(1 + U / W).
 *
 * @param upper [V] overwritten
 */
export function certifyForced(
  decision: Decision,
  row: BaseRow,
  upper: Float32Array,
): RowCertificate {
  if (row.restMax === 0) return PROVEN;
  if (!row.seen.has(decision.token)) {
    return { certified: false, ask: [decision.token], deeper: false, errorMax: 1 };
  }
  fillSteered(decision, row, upper);
  const errorMax = errorMaxOf({
    upper,
    seenIds: row.seen.keys(),
    unseenAtBound: row.restMax / Math.exp(row.unseenMax),
    temperature: 1,
    penalty: 1,
    isDivided: () => false,
  });
  if (errorMax <= NORMALISER_NEGLIGIBLE) return PROVEN;
  return { certified: false, ask: [], deeper: false, errorMax };
}

/** Fills in the steered logits of seen tokens and the upper bounds of the others. Returns whether they are steered. */
function fillSteered({ strength, models }: Decision, row: BaseRow, upper: Float32Array): boolean {
  row.fillUpper(upper);
  const { expert, antiexpert } = models;
  if (strength === 0 || !expert || !antiexpert) return false;
  combineLogits(upper, upper, expert, antiexpert, strength);
  return true;
}

function drawOf(
  { request: { sampler } }: Sequence,
  token: number,
  row: BaseRow,
  upper: Float32Array,
  isSeen: (id: number) => boolean,
): PartialDraw {
  return {
    ...sampler.describe(upper),
    token,
    isSeen,
    seenIds: [...row.seen.keys()].filter(isSeen),
    unseenMax: row.unseenMax,
    below: (id) => row.below(id),
    unseenAtBound: row.restMax / Math.exp(row.unseenMax),
  };
}

/** Whether base nucleus and KL budget, of a nucleus that is not covered, do the same with every base that fits the row. */
function decidedGuards(
  { request: { guards = {}, sampler }, scheduledAlpha }: Sequence,
  decision: Decision,
  row: BaseRow,
): readonly [nucleus: boolean, budget: boolean] {
  const { baseNucleus = 1, klBudget, fallback } = guards;
  const { strength } = decision;
  if (scheduledAlpha === 0) return [true, true];
  // Alpha 0 in spite of the request's: nothing but `fallback` does this without a KL budget and a constraint.
  const isOnlyFallback = fallback !== undefined && klBudget === undefined && !sampler.constraint;
  if (strength === 0 && isOnlyFallback) return [true, true];
  return [
    baseNucleus === 1 || (strength !== 0 && klBudget === undefined),
    klBudget === undefined || unseenDivergenceMax(decision, row) <= KL_NEGLIGIBLE,
  ];
}

/**
 * The most that the unseen tokens can add to the divergence KL(steered || base), about: with x the change of a token's
 * log-probability by steering, the sum of p * e^x * (1 + |x|) over them. x is strength * shift less the logarithm of the
 * normaliser, here that of the seen tokens.
 */
function unseenDivergenceMax({ strength, models }: Decision, row: BaseRow): number {
  const { expert, antiexpert } = models;
  if (!expert || !antiexpert) return 0;
  const changeOf = (id: number) => strength * (expert[id]! - antiexpert[id]!);
  let normaliser = 0;
  for (const [id, logprob] of row.seen) {
    const weight = Math.exp(logprob + changeOf(id));
    if (!Number.isNaN(weight)) normaliser += weight;
  }
  const logNormaliser = Math.log(normaliser);
  let largest = 1;
  for (let id = 0; id < row.vocabSize; id++) {
    const change = changeOf(id) - logNormaliser;
    const factor = Math.exp(Math.max(0, change)) * (1 + Math.abs(change));
    // A token that a model masks stays masked: NaN, or -Infinity and thereby 0 * Infinity.
    if (factor > largest && Number.isFinite(factor) && !row.seen.has(id)) largest = factor;
  }
  return row.rest * largest;
}

/** U / (W + U): the share that the unseen tokens can have at most. */
function errorMaxOf(
  draw: Pick<
    PartialDraw,
    "upper" | "seenIds" | "isDivided" | "temperature" | "unseenAtBound" | "penalty"
  >,
): number {
  const { upper, penalty, isDivided } = draw;
  const temperature = draw.temperature === 0 ? 1 : draw.temperature;
  const max = maxOf(upper);
  const logs = upper.map((value) => (value - max) / temperature);
  let seen = 0;
  for (const id of draw.seenIds) {
    seen += Math.exp(logs[id]!);
    logs[id] = Number.NEGATIVE_INFINITY;
  }
  const isNegative =
    penalty === 1 || !logs.some((log, id) => log > Number.NEGATIVE_INFINITY && isDivided(id));
  const weight = unseenWeightMax(logs, { ...draw, temperature }, isNegative);
  return weight / (seen + weight);
}
