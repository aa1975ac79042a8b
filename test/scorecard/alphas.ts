/** The alphas that a scorecard tries. */
import type { EnsembleEntry } from "../../worker/engine/model/manifest.ts";

export const DEFAULT_ALPHAS: readonly number[] = [0.3, 0.5, 0.7, 0.85, 1, 1.25, 1.5];

/**
 * @param given absent: the defaults that the ensemble allows
 * @returns lowest first, with that of the manifest
 * @throws Error if a given one is above alphaMax, or none is above 0
 */
export function alphasToTry(
  given: readonly number[] | undefined,
  { alpha, alphaMax }: Pick<EnsembleEntry, "alpha" | "alphaMax">,
): number[] {
  if (given?.some((number) => number > alphaMax)) {
    throw new Error(`--alphas: at most ${alphaMax}, the ensemble's alphaMax`);
  }
  const alphas = given ?? DEFAULT_ALPHAS.filter((number) => number <= alphaMax);
  const tried = [...new Set([...alphas, alpha])].filter((number) => number > 0);
  if (tried.length === 0) throw new Error("--alphas: one above 0 is needed");
  return tried.toSorted((a, b) => a - b);
}
