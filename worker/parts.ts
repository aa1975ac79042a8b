/**
 * Who takes part in a generation: each model with a prompt of its own. Two that would see the same (pairs that share an
 * antiexpert) would say the same, so they are one part, run once.
 */
import type { Decoder } from "./model/decoder.ts";

const ROLES = ["base", "expert", "antiexpert"] as const;
type Role = (typeof ROLES)[number];

/** The three models of an ensemble. */
export interface Models extends Readonly<Record<Role, Decoder>> {
  /** V: tokens that exist. A model's logits may be wider; the rest is padding and never drawn. */
  readonly vocabSize: number;
}

/** One tokenized prompt per model: each may have its own template, and all share the generated tokens. */
export type Prompts = Readonly<Record<Role, readonly number[]>>;

/** An expert and its antiexpert, and how much of the shift is theirs. */
export interface Pair {
  /** Above 0. */
  readonly weight: number;
  readonly models: Pick<Models, "expert" | "antiexpert">;
  readonly prompts: Pick<Prompts, "expert" | "antiexpert">;
}

/** What a generation says of its models. */
export interface Casting {
  readonly models: Models;
  readonly prompts: Prompts;
  /** Strength of the shift; with a schedule, the most that it comes to. At 0 no expert or antiexpert is ever run. */
  readonly alpha: number;
  /** What steers instead of the models' own expert and antiexpert at weight 1. */
  readonly pairs?: readonly Pair[];
}

export interface Part {
  readonly decoder: Decoder;
  readonly prompt: readonly number[];
}

/** A pair, as places among the parts. */
export interface PairParts {
  readonly weight: number;
  readonly expert: number;
  readonly antiexpert: number;
}

export interface Parts {
  /** The base's first. */
  readonly parts: readonly Part[];
  /** Empty where nothing is steered. */
  readonly pairs: readonly PairParts[];
}

export function partsOf({ models, prompts, alpha, pairs }: Casting): Parts {
  const parts: Part[] = [{ decoder: models.base, prompt: prompts.base }];
  const placeOf = (decoder: Decoder, prompt: readonly number[]): number => {
    const known = parts.findIndex(
      (part) => part.decoder === decoder && isSame(part.prompt, prompt),
    );
    return known === -1 ? parts.push({ decoder, prompt }) - 1 : known;
  };
  const steering = alpha === 0 ? [] : (pairs ?? [{ weight: 1, models, prompts }]);
  return {
    pairs: steering.map((pair) => ({
      weight: pair.weight,
      expert: placeOf(pair.models.expert, pair.prompts.expert),
      antiexpert: placeOf(pair.models.antiexpert, pair.prompts.antiexpert),
    })),
    parts,
  };
}

function isSame(some: readonly number[], others: readonly number[]): boolean {
  return some.length === others.length && some.every((id, i) => id === others[i]);
}
