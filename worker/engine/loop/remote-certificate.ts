/**
 * Decides whether a token that was drawn with a remote base's row is proven, and what must be known otherwise. The proof is
 * decode/certificate.ts; here are the guards, which depend on the base's whole distribution.
 *
 * - `fallback` compares expert and antiexpert, which are known.
 * - `base_nucleus` p is known exactly if the list of most likely tokens has at least the mass p: the nucleus is then a part of
 *   it, and unseen tokens are masked. Nothing else has to be proven about them.
 * - `kl_budget` alone makes alpha depend on every token. Its alpha is taken from the row with the rest shared equally, and the
 *   token counts as proven only if the unseen tokens change the divergence by less than KL_NEGLIGIBLE. Otherwise there is no
 *   bound of the error either, as the exact alpha may be any up to the request's.
 */
import { certify, type Certificate, type PartialDraw } from "../decode/certificate.ts";
import { combineLogits } from "../decode/combine.ts";
import { nucleus } from "../decode/truncate.ts";
import { unseenWeightMax } from "../decode/unseen-weight.ts";
import type { BaseRow } from "../remote/base-row.ts";
import type { Decision, Sequence } from "./sequence.ts";

/** A nucleus of which no more than this mass is unknown counts as known. */
const REST_NEGLIGIBLE = 1e-5;
/** A share of the divergence that moves the alpha of a KL budget by less than the solver's own tolerance. */
const KL_NEGLIGIBLE = 1e-5;

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
  const { token, strength, models } = decision;
  row.fillUpper(upper);
  const { expert, antiexpert } = models;
  if (strength !== 0 && expert && antiexpert) {
    combineLogits(upper, upper, expert, antiexpert, strength);
    const { baseNucleus = 1 } = sequence.request.guards ?? {};
    if (isCovered(row, baseNucleus)) maskOutside(upper, nucleus(models.base, null, baseNucleus));
  }
  const draw: PartialDraw = {
    ...sequence.request.sampler.describe(upper),
    token,
    isSeen: (id) => row.seen.has(id),
    unseenAtBound: row.restMax / Math.exp(row.unseenMax),
  };
  const certificate = certify(draw);
  const [nucleusDecided, budgetDecided] = isBaseAlone
    ? [true, true]
    : decidedGuards(sequence, decision, row);
  const deeper = !nucleusDecided || !budgetDecided;
  if (certificate.certified && !deeper) return PROVEN;
  return {
    ...certificate,
    certified: false,
    deeper,
    errorMax: budgetDecided ? errorMaxOf(draw) : 1,
  };
}

const isCovered = (row: BaseRow, baseNucleus: number) =>
  baseNucleus < 1 && row.topMass >= baseNucleus;

/** Whether base nucleus and KL budget do the same with every base that fits the row. */
function decidedGuards(
  { request: { guards = {}, sampler }, scheduledAlpha }: Sequence,
  decision: Decision,
  row: BaseRow,
): readonly [nucleus: boolean, budget: boolean] {
  const { baseNucleus = 1, klBudget, fallback } = guards;
  const { strength } = decision;
  if (scheduledAlpha === 0 || isCovered(row, baseNucleus)) return [true, true];
  // Alpha 0 in spite of the request's: nothing but `fallback` does this without a KL budget and a constraint.
  const isOnlyFallback = fallback !== undefined && klBudget === undefined && !sampler.constraint;
  if (strength === 0 && isOnlyFallback) return [true, true];
  return [
    baseNucleus === 1 || row.restMax <= REST_NEGLIGIBLE,
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
  let largest = 1;
  for (let id = 0; id < row.vocabSize; id++) {
    if (row.seen.has(id)) continue;
    const change = changeOf(id) - Math.log(normaliser);
    const factor = Math.exp(Math.max(0, change)) * (1 + Math.abs(change));
    // A token that a model masks stays masked: NaN, or -Infinity and thereby 0 * Infinity.
    if (Number.isFinite(factor)) largest = Math.max(largest, factor);
  }
  return row.restMax * largest;
}

/** U / (W + U): the share that the unseen tokens can have at most. */
function errorMaxOf(draw: PartialDraw): number {
  const { upper, isSeen } = draw;
  const temperature = draw.temperature === 0 ? 1 : draw.temperature;
  let max = Number.NEGATIVE_INFINITY;
  for (const value of upper) max = Math.max(max, value);
  let seen = 0;
  const unseen: number[] = [];
  let isNegative = true;
  for (let id = 0; id < upper.length; id++) {
    if (upper[id] === Number.NEGATIVE_INFINITY) continue;
    const log = (upper[id]! - max) / temperature;
    if (isSeen(id)) seen += Math.exp(log);
    else {
      unseen.push(log);
      isNegative &&= !draw.isDivided(id);
    }
  }
  const weight = unseenWeightMax(Float64Array.from(unseen), { ...draw, temperature }, isNegative);
  return weight / (seen + weight);
}

function maskOutside(logits: Float32Array, ids: readonly number[]): void {
  const inside = new Set(ids);
  for (let id = 0; id < logits.length; id++) {
    if (!inside.has(id)) logits[id] = Number.NEGATIVE_INFINITY;
  }
}
