/**
 * The pair's proposal for a position whose row is not known yet: a draft, and the tokens that the row should tell beside the base's most
 * likely ones. It takes the antiexpert for the base, with all stages of a real draw, its noise included.
 *
 * Shift and noise of every token are known, s(y) together. With W the score of the proposed token, a token can win only if its
 * log-probability under the base is about W - s(y) or more. So tokens with a large s(y) are lifted: one which is still below the end
 * of the list then surely loses, most often (decode/certificate.ts has the proof, which does not depend on the proposal).
 */
import { logSumExp } from "../decode/exp.ts";
import { GUMBEL_MAX } from "../decode/noise.ts";
import type { Sampler } from "../decode/sampler.ts";
import { topIds } from "../decode/truncate.ts";
import { MARGIN_MAX } from "./draft-margins.ts";
import type { Sequence } from "./sequence.ts";

/**
 * A call has the same lifts for all its positions, and a token that is lifted for one of them pushes others out of the lists of the rest.
 * So only tokens that could win by so many nats are lifted, and each by no more than the second number. Measured with 48 known
 * tokens and five drafts: 1% of the positions of a reply are asked again, and 10% without lifts.
 */
const LIFT_MARGIN = 4;
const LIFT_MAX = 6;

export interface Proposal {
  readonly token: number;
  /** How far its score is above the second one, in nats of the logits; at most MARGIN_MAX. */
  readonly margin: number;
  /** Token id -> nats (remote/api.ts). */
  readonly lifts: ReadonlyMap<number, number>;
}

const NO_LIFTS: ReadonlyMap<number, number> = new Map();

/**
 * @param drafts tokens between the output and the position
 * @param pairLogits of the models beside the base
 * @param liftMax most lifted tokens
 * @returns null if the response format forbids a draft, or if the logits allow no token
 */
export function propose(
  sequence: Sequence,
  drafts: readonly number[],
  pairLogits: readonly Float32Array[],
  liftMax: number,
): Proposal | null {
  const { draftBase, modelStates, request } = sequence;
  const size = sequence.logits.length;
  const base = pairLogits[modelStates.indexOf(draftBase!) - 1]!.subarray(0, size);
  const steered = new Float32Array(size);
  let accepted = 0;
  try {
    for (; accepted < drafts.length; accepted++) request.sampler.accept(drafts[accepted]!);
    const { token } = sequence.decide([base, ...pairLogits], steered);
    const draw = request.sampler.describe(steered);
    const lifts = liftMax > 0 ? liftsOf(draw, token, base, liftMax) : NO_LIFTS;
    return { token, margin: marginOf(draw, token), lifts };
  } catch {
    return null;
  } finally {
    request.sampler.rewind(accepted);
  }
}

/** A draw with the antiexpert as base: all its logits are known. */
type ProposedDraw = ReturnType<Sampler["describe"]>;

function marginOf({ upper, temperature, noise, noiseAbove }: ProposedDraw, token: number): number {
  const own = upper[token]! + (temperature === 0 ? 0 : temperature * noise(token));
  let second = own - MARGIN_MAX;
  for (let id = 0; id < upper.length; id++) {
    if (id === token) continue;
    let score = upper[id]!;
    if (temperature > 0) {
      const needed = (second - score) / temperature;
      // NaN: a model masks the token.
      if (!(needed < GUMBEL_MAX)) continue;
      score += temperature * noiseAbove(id, needed);
    }
    if (score > second) second = score;
  }
  // A truncation may have cut a token with a larger score.
  return Math.max(0, own - second);
}

function liftsOf(
  { upper, temperature, noise, noiseAbove }: ProposedDraw,
  token: number,
  base: Float32Array,
  liftMax: number,
): Map<number, number> {
  const normaliser = logSumExp(base);
  const own = temperature === 0 ? 0 : temperature * noise(token);
  const threshold = upper[token]! + own - normaliser + LIFT_MARGIN;
  const [ids, scores]: [number[], number[]] = [[], []];
  for (let id = 0; id < upper.length; id++) {
    const shift = upper[id]! - base[id]!;
    const needed = (threshold - shift) / temperature;
    // NaN: a model masks the token.
    if (temperature === 0 ? !(shift > threshold) : !(needed < GUMBEL_MAX)) continue;
    const score = temperature === 0 ? shift : shift + temperature * noiseAbove(id, needed);
    if (score <= threshold) continue;
    ids.push(id);
    scores.push(score);
  }
  const lifts = new Map<number, number>();
  for (const i of topIds(Float32Array.from(scores), liftMax)) {
    const lift = Math.min(LIFT_MAX, scores[i]! - threshold);
    // Short in the body of a call. Rows take back the same number, so no certificate depends on the rounding.
    lifts.set(ids[i]!, Math.round(lift * 1000) / 1000);
  }
  return lifts;
}
