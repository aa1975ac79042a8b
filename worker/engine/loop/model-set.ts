/**
 * Decides which models a sequence runs, each with its own prompt. A model that several pairs use with the same prompt (a
 * shared antiexpert) is listed and run once, because its logits are the same.
 */
import type { Decoder } from "../decoder/decoder.ts";
import type { Models } from "../model/ensemble.ts";
import type { Prompts } from "../model/ensemble-tokenizers.ts";

/** An expert and an antiexpert, and the weight of their shift. */
export interface Pair {
  /** Above 0. */
  readonly weight: number;
  readonly models: Pick<Models, "expert" | "antiexpert">;
  readonly prompts: Pick<Prompts, "expert" | "antiexpert">;
}

/** The models of a generation, and how strongly they steer. */
export interface SteeredModels {
  readonly models: Models;
  readonly prompts: Prompts;
  /** Strength of the shift; with a schedule, the alpha of the largest absolute value. At 0 no expert or antiexpert is run. */
  readonly alpha: number;
  /** Used instead of `models.expert` and `models.antiexpert`. If absent, those are one pair of weight 1. */
  readonly pairs?: readonly Pair[];
}

/** A model and the prompt that it reads. */
export interface SetModel {
  readonly decoder: Decoder;
  readonly prompt: readonly number[];
}

/** A pair; expert and antiexpert are indexes into `ModelSet.models`. */
export interface SetPair {
  readonly weight: number;
  readonly expert: number;
  readonly antiexpert: number;
}

export interface ModelSet {
  /** The base is first. */
  readonly models: readonly SetModel[];
  /** Empty at alpha 0. */
  readonly pairs: readonly SetPair[];
}

export function buildModelSet({ models, prompts, alpha, pairs }: SteeredModels): ModelSet {
  const set: SetModel[] = [{ decoder: models.base, prompt: prompts.base }];
  const indexOf = (decoder: Decoder, prompt: readonly number[]): number => {
    const known = set.findIndex(
      (model) => model.decoder === decoder && sameTokens(model.prompt, prompt),
    );
    return known === -1 ? set.push({ decoder, prompt }) - 1 : known;
  };
  const steering = alpha === 0 ? [] : (pairs ?? [{ weight: 1, models, prompts }]);
  return {
    pairs: steering.map((pair) => ({
      weight: pair.weight,
      expert: indexOf(pair.models.expert, pair.prompts.expert),
      antiexpert: indexOf(pair.models.antiexpert, pair.prompts.antiexpert),
    })),
    models: set,
  };
}

function sameTokens(some: readonly number[], others: readonly number[]): boolean {
  if (some === others) return true;
  return some.length === others.length && some.every((id, i) => id === others[i]);
}
