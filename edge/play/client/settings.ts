/** The settings of a comparison: as the body of a job, and in the page's address. */
import type { JobBody } from "./api.ts";

export interface Settings {
  readonly model: string;
  readonly prompt: string;
  readonly alpha: number;
  readonly temperature: number;
  readonly top_p: number;
  readonly max_tokens: number;
  readonly seed: number;
  /** Null: the guard is off. */
  readonly kl_budget: number | null;
  readonly base_nucleus: number | null;
}

/** The settings that are numbers, besides alpha. */
export const NUMBER_NAMES = [
  "temperature",
  "top_p",
  "max_tokens",
  "seed",
  "kl_budget",
  "base_nucleus",
] as const;
export type NumberName = (typeof NUMBER_NAMES)[number];

/** Likely tokens that are reported at each position: candidates for the figure of a token. */
const TOP_TOKENS = 4;

export const messagesOf = ({ prompt }: Pick<Settings, "prompt">) => [
  { role: "user" as const, content: prompt },
];

export function steeringOf(settings: Settings, alpha: number) {
  const { kl_budget, base_nucleus } = settings;
  const guards = {
    ...(kl_budget !== null && { kl_budget }),
    ...(base_nucleus !== null && { base_nucleus }),
  };
  return { alpha, ...(Object.keys(guards).length > 0 && { guards }) };
}

/** The fields of a job that do not depend on its input. */
export function generationOf(settings: Settings, alpha: number) {
  const { model, temperature, top_p, max_tokens, seed } = settings;
  return {
    model,
    temperature,
    ...(top_p !== 1 && { top_p }),
    max_tokens,
    seed,
    steering: steeringOf(settings, alpha),
  };
}

/** The job of one answer, with the details that the page shows. */
export function jobBody(settings: Settings, alpha: number): JobBody {
  const { steering, ...generation } = generationOf(settings, alpha);
  return {
    ...generation,
    messages: messagesOf(settings),
    logprobs: TOP_TOKENS,
    steering: { ...steering, trace: true },
  };
}

/** The settings as the fragment of a link. */
export function toFragment(settings: Settings): string {
  const set = Object.entries(settings).filter(([, value]) => value !== null);
  return new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
}

/** The settings that a fragment has; what is no number where one is expected is left out. */
export function fromFragment(parameters: URLSearchParams): Partial<Settings> {
  const numbers = ["alpha", ...NUMBER_NAMES].flatMap((name) => {
    const text = parameters.get(name);
    const value = Number(text);
    return text === null || text === "" || !Number.isFinite(value) ? [] : [[name, value] as const];
  });
  const texts = ["model", "prompt"].flatMap((name) => {
    const text = parameters.get(name);
    return text === null ? [] : [[name, text] as const];
  });
  return Object.fromEntries([...numbers, ...texts]) as Partial<Settings>;
}
