/** Requests for the decode loop, and helpers that run them. */
import { join } from "node:path";
import { Output, type Finish } from "../../worker/engine/decode/output.ts";
import type { GateOptions } from "../../worker/engine/decode/gate.ts";
import type { GuardOptions } from "../../worker/engine/decode/guards.ts";
import { Sampler, type Constraint, type Sampling } from "../../worker/engine/decode/sampler.ts";
import type { BatchOptions } from "../../worker/engine/loop/batch.ts";
import { generate } from "../../worker/engine/loop/generate.ts";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import type { Pair } from "../../worker/engine/loop/model-set.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import type { Prompts } from "../../worker/engine/model/ensemble-tokenizers.ts";
import type { GenerateRequest } from "../../worker/engine/loop/sequence.ts";
import { VECTORS } from "./model-folder.ts";
import { sampling } from "./sampling.ts";

export const EOS = 0;
export const PROMPTS: Prompts = { base: [1, 2, 3], expert: [4], antiexpert: [5, 6] };
/** A logit bias without end tokens, so that an output uses its whole token limit. */
export const NO_EOS = [EOS, -1000] as const;

export interface RequestOptions {
  readonly models: Models;
  readonly prompts?: Prompts;
  readonly alpha?: number;
  readonly pairs?: readonly Pair[];
  readonly sampling?: Partial<Sampling>;
  readonly resume?: readonly number[];
  readonly maxTokens?: number;
  readonly stop?: readonly string[];
  readonly guards?: GuardOptions;
  readonly gate?: GateOptions;
  readonly constrain?: () => Constraint;
}

/** A request with its own sampler and output. A token's text is one letter, "a" for token 0. */
export function generateRequest(options: RequestOptions): GenerateRequest {
  const { models, prompts = PROMPTS, alpha = 1, resume = [], maxTokens = 24, stop = [] } = options;
  const { pairs, guards, gate } = options;
  const constraint = options.constrain?.() ?? null;
  const isComplete = () => constraint?.isComplete ?? false;
  const decode = (ids: number[]) => ids.map((id) => String.fromCodePoint(97 + id)).join("");
  return {
    models,
    prompts,
    alpha,
    ...(pairs && { pairs }),
    ...(guards && { guards }),
    ...(gate && { gate }),
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

/** Runs a generation alone and returns its steps. */
export async function runSteps(
  options: RequestOptions,
  batch?: BatchOptions,
): Promise<PlainStep[]> {
  const steps: PlainStep[] = [];
  for await (const { token, text, finish } of generate(generateRequest(options), batch)) {
    steps.push({ token, text, finish });
  }
  return steps;
}

export async function runTokens(options: RequestOptions, batch?: BatchOptions): Promise<number[]> {
  return (await runSteps(options, batch)).map(({ token }) => token);
}

/** The models of golden vectors. */
export async function vectorModels(
  ensemble: string,
  vocabSize: number,
  folderOf = (name: string) => join(VECTORS, name),
): Promise<Models> {
  const load = (role: string) =>
    loadDecoder(folderOf(`${ensemble}/${role}`), { dtype: "fp32", intraOpThreads: 1 });
  return {
    base: await load("base"),
    expert: await load("expert"),
    antiexpert: await load("antiexpert"),
    vocabSize,
  };
}
