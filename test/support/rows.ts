/** Generations for the loop, and what comes out of them. */
import { join } from "node:path";
import { Output, type Finish } from "../../worker/decode/output.ts";
import type { Guards } from "../../worker/decode/guards.ts";
import { Sampler, type Constraint, type Sampling } from "../../worker/decode/sampler.ts";
import { generate, type BatchOptions } from "../../worker/generate.ts";
import { loadDecoder } from "../../worker/model/files.ts";
import type { Models, Pair, Prompts } from "../../worker/parts.ts";
import type { GenerateRequest } from "../../worker/row.ts";
import { VECTORS } from "./model-folder.ts";
import { sampling } from "./sampling.ts";

export const EOS = 0;
export const PROMPTS: Prompts = { base: [1, 2, 3], expert: [4], antiexpert: [5, 6] };
/** So that an output takes all its tokens. */
export const NO_EOS = [EOS, -1000] as const;

export interface RowOptions {
  readonly models: Models;
  readonly prompts?: Prompts;
  readonly alpha?: number;
  readonly pairs?: readonly Pair[];
  readonly sampling?: Partial<Sampling>;
  readonly resume?: readonly number[];
  readonly maxTokens?: number;
  readonly stop?: readonly string[];
  readonly guards?: Guards;
  readonly constrain?: () => Constraint;
}

/** A request with a sampler and an output of its own. A token's text is one letter, "a" for 0. */
export function request(options: RowOptions): GenerateRequest {
  const { models, prompts = PROMPTS, alpha = 1, resume = [], maxTokens = 24, stop = [] } = options;
  const { pairs, guards } = options;
  const constraint = options.constrain?.() ?? null;
  const isComplete = () => constraint?.isComplete ?? false;
  const decode = (ids: number[]) => ids.map((id) => String.fromCodePoint(97 + id)).join("");
  return {
    models,
    prompts,
    alpha,
    ...(pairs && { pairs }),
    ...(guards && { guards }),
    resume,
    sampler: new Sampler(sampling(options.sampling), prompts.base, [], constraint),
    output: new Output({ decode, stop, eosIds: new Set([EOS]), maxTokens, isComplete }),
  };
}

export interface PlainStep {
  readonly token: number;
  readonly text: string;
  readonly finish: Finish | null;
}

/** What a generation gives alone. */
export async function stepsOf(options: RowOptions, batch?: BatchOptions): Promise<PlainStep[]> {
  const steps: PlainStep[] = [];
  for await (const { token, text, finish } of generate(request(options), batch)) {
    steps.push({ token, text, finish });
  }
  return steps;
}

export async function tokensOf(options: RowOptions, batch?: BatchOptions): Promise<number[]> {
  return (await stepsOf(options, batch)).map(({ token }) => token);
}

/** The models of golden vectors. */
export async function vectorModels(ensemble: string, vocabSize: number): Promise<Models> {
  const load = (role: string) =>
    loadDecoder(join(VECTORS, ensemble, role), { dtype: "fp32", intraOpThreads: 1 });
  return {
    base: await load("base"),
    expert: await load("expert"),
    antiexpert: await load("antiexpert"),
    vocabSize,
  };
}
