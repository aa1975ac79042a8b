/** Which models a generation means: those of its ensemble, or its base and the pairs of the ensembles that it names. */
import { AppError } from "../../shared/errors.ts";
import type { Generation } from "../../shared/job.ts";
import type { Ensemble } from "../model/ensemble.ts";
import { partsOf, type Casting } from "../parts.ts";

export interface Cast {
  readonly ensemble: Ensemble;
  readonly casting: Casting;
  /** Any model's end token ends the text. */
  readonly eosIds: ReadonlySet<number>;
  /** Tokens of the longest prompt, and of the shortest context. */
  readonly promptTokensMax: number;
  readonly contextTokens: number;
}

/** @throws AppError model_not_found, invalid_request */
export function cast(ensembles: ReadonlyMap<string, Ensemble>, generation: Generation): Cast {
  const { model, input, alpha } = generation;
  const ensemble = find(ensembles, model);
  const named = generation.pairs?.map((pair) => {
    const other = find(ensembles, pair.model);
    // The edge has compared their cards, which another worker may have announced.
    if (other.models.base !== ensemble.models.base) {
      throw new AppError("invalid_request", `${pair.model} is not over the base of ${model}`);
    }
    return { ensemble: other, weight: pair.weight };
  });
  const pairs = named?.map(({ ensemble: { models, encode }, weight }) => ({
    weight,
    models,
    prompts: encode(input),
  }));
  const all = [ensemble, ...(named?.map((pair) => pair.ensemble) ?? [])];
  const { models, encode } = ensemble;
  const casting = { models, prompts: encode(input), alpha, ...(pairs && { pairs }) };
  const { parts } = partsOf(casting);
  for (const { prompt } of parts) checkIds(prompt, ensemble);
  return {
    ensemble,
    casting,
    eosIds: new Set(all.flatMap(({ eosIds }) => [...eosIds])),
    promptTokensMax: Math.max(...parts.map(({ prompt }) => prompt.length)),
    contextTokens: Math.min(...all.map(({ card }) => card.contextTokens)),
  };
}

function find(ensembles: ReadonlyMap<string, Ensemble>, id: string): Ensemble {
  const ensemble = ensembles.get(id);
  if (ensemble) return ensemble;
  throw new AppError("model_not_found", `this worker does not serve ${id}`);
}

/** An id without an embedding makes onnxruntime fail the whole batch; a log may be older than the models. */
export function checkIds(
  ids: readonly number[],
  { card: { id, vocabSize } }: Ensemble,
  param = "prompt",
): void {
  const bad = ids.find((token) => token >= vocabSize);
  if (bad === undefined) return;
  throw new AppError("invalid_request", `token ${bad} is not among the ${vocabSize} of ${id}`, {
    param,
  });
}
