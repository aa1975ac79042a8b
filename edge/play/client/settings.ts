/** The settings of a comparison: as the body of a job, and in the page's address. */
import * as v from "valibot";
import { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { AlphaSchedule, ExpertPairs, Gate, PAIR_CONFLICTS } from "../../../shared/api/steering.ts";
import { scheduleAfter, type Knot } from "../../../shared/jobs/alpha-schedule.ts";
import type { JobBody } from "./api.ts";

export interface Pair {
  readonly model: string;
  readonly weight: number;
}

export interface Settings {
  readonly model: string;
  readonly prompt: string;
  readonly alpha: number;
  /** Alpha by position, instead of `alpha`; null for one alpha. */
  readonly schedule: readonly Knot[] | null;
  /** The experts that steer; null for the model's own. */
  readonly pairs: readonly Pair[] | null;
  /** Of a link or of a job; the form does not show it. Null: all shifts are added. */
  readonly pair_conflicts: (typeof PAIR_CONFLICTS)[number] | null;
  readonly temperature: number;
  readonly top_p: number;
  readonly max_tokens: number;
  readonly seed: number;
  /** Null: the guard is off. */
  readonly kl_budget: number | null;
  readonly base_nucleus: number | null;
  readonly fallback: number | null;
  /** Of a link or of a job; the form does not show it. Null: the shift is applied at every token. */
  readonly gate: v.InferOutput<typeof Gate> | null;
  /** Strings that end the answer; null for none. */
  readonly stop: readonly string[] | null;
  /** Null: any text. */
  readonly response_format: ResponseFormat | null;
}

/** The settings that are numbers, besides alpha. */
export const NUMBER_NAMES = [
  "temperature",
  "top_p",
  "max_tokens",
  "seed",
  "kl_budget",
  "base_nucleus",
  "fallback",
] as const;
export type NumberName = (typeof NUMBER_NAMES)[number];

/** The settings that a link has as JSON, or as a word. A link may come from anywhere, so they are checked. */
const STRUCTURED = {
  schedule: AlphaSchedule,
  pairs: ExpertPairs,
  pair_conflicts: v.picklist(PAIR_CONFLICTS),
  gate: Gate,
  stop: v.array(v.string()),
  response_format: ResponseFormat,
} satisfies Partial<Record<keyof Settings, v.GenericSchema>>;

/** Likely tokens that are reported at each position: candidates for the figure of a token. */
const TOP_TOKENS = 4;

/** The same settings with one alpha in the place of a schedule. */
export const withAlpha = (settings: Settings, alpha: number): Settings => ({
  ...settings,
  alpha,
  schedule: null,
});

export const messagesOf = ({ prompt }: Pick<Settings, "prompt">) => [
  { role: "user" as const, content: prompt },
];

export function steeringOf(settings: Settings) {
  const { alpha, schedule, pairs, pair_conflicts, kl_budget, base_nucleus, fallback, gate } =
    settings;
  const guards = {
    ...(kl_budget !== null && { kl_budget }),
    ...(base_nucleus !== null && { base_nucleus }),
    ...(fallback !== null && { fallback }),
  };
  return {
    ...(schedule === null
      ? { alpha }
      : { schedule: schedule.map(([at, value]): [number, number] => [at, value]) }),
    ...(pairs !== null && { pairs: pairs.map((pair) => ({ ...pair })) }),
    ...(pair_conflicts !== null && { pair_conflicts }),
    ...(Object.keys(guards).length > 0 && { guards }),
    ...(gate !== null && { gate }),
  };
}

/** The fields of a job that do not depend on its input. */
export function generationOf(settings: Settings) {
  const { model, temperature, top_p, max_tokens, seed, stop, response_format } = settings;
  return {
    model,
    temperature,
    ...(top_p !== 1 && { top_p }),
    max_tokens,
    seed,
    ...(stop !== null && { stop: [...stop] }),
    ...(response_format !== null && { response_format }),
    steering: steeringOf(settings),
  };
}

/** The job of one answer, with the details that the page shows. */
export function jobBody(settings: Settings): JobBody {
  const { steering, ...generation } = generationOf(settings);
  return {
    ...generation,
    messages: messagesOf(settings),
    logprobs: TOP_TOKENS,
    steering: { ...steering, trace: true },
  };
}

/**
 * The job that goes on after the first tokens of an answer.
 * @param prompt the ids of the prompt and of these tokens
 * @throws Error with a response format, which would begin again
 */
export function continuedBody(
  settings: Settings,
  prompt: readonly number[],
  kept: number,
): JobBody {
  if (settings.response_format !== null) {
    throw new Error("with a response format an answer cannot go on from another token");
  }
  const { schedule } = settings;
  const { messages: _, ...body } = jobBody({
    ...settings,
    max_tokens: Math.max(1, settings.max_tokens - kept),
    schedule: schedule && scheduleAfter(schedule, kept),
  });
  return { ...body, prompt: [...prompt] };
}

/** The settings as the fragment of a link. */
export function toFragment(settings: Settings): string {
  return new URLSearchParams(fragmentEntries(settings)).toString();
}

function fragmentEntries(settings: object): [string, string][] {
  return Object.entries(settings)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => [
      name,
      typeof value === "object" ? JSON.stringify(value) : String(value),
    ]);
}

/** The settings that a fragment has; those with a value of another kind are left out. */
export function fromFragment(parameters: URLSearchParams): Partial<Settings> {
  const present = (names: readonly string[]) =>
    names.flatMap((name) => {
      const text = parameters.get(name);
      return text === null || text === "" ? [] : [[name, text] as const];
    });
  const numbers = present(["alpha", ...NUMBER_NAMES])
    .map(([name, text]) => [name, Number(text)] as const)
    .filter(([, value]) => Number.isFinite(value));
  const structured = present(Object.keys(STRUCTURED)).flatMap(([name, text]) => {
    const result = v.safeParse(STRUCTURED[name as keyof typeof STRUCTURED], parsedJson(text));
    return result.success ? [[name, result.output] as const] : [];
  });
  return Object.fromEntries([...numbers, ...structured, ...present(["model", "prompt"])]);
}

/** The settings of a job's request, as far as the page has them. */
export function fromRequest(body: unknown): Partial<Settings> {
  const request = body as Partial<JobBody> | null;
  const { messages, prompt, stop, steering, ...generation } = request ?? {};
  const question = messages?.findLast(({ role }) => role === "user")?.content ?? prompt;
  const { guards, ...rest } = steering ?? {};
  const flat = {
    ...generation,
    ...rest,
    ...guards,
    stop: typeof stop === "string" ? [stop] : stop,
    prompt: typeof question === "string" ? question : undefined,
  };
  return fromFragment(new URLSearchParams(fragmentEntries(flat)));
}

/** A text that is not JSON is a value of its own. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
