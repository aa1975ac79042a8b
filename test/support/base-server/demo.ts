/** The demo ensembles with their base behind a fake server, beside the same ensembles run locally. */
import { join } from "node:path";
import { Output } from "../../../worker/engine/decode/output.ts";
import { Sampler, type Constraint, type Sampling } from "../../../worker/engine/decode/sampler.ts";
import type { TokenAnalysis } from "../../../worker/engine/decode/token-analysis.ts";
import { Batch } from "../../../worker/engine/loop/batch.ts";
import type { RemoteCounts } from "../../../worker/engine-client/messages.ts";
import type { GenerateRequest, Sequence } from "../../../worker/engine/loop/sequence.ts";
import { readConfig } from "../../../worker/engine/model/model-config.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { ModelTokenizer } from "../../../worker/engine/model/tokenizer.ts";
import type { Models } from "../../../worker/engine/model/ensemble.ts";
import { sampling } from "../sampling.ts";

const MODELS = join(import.meta.dirname, "../../../infra/models");

export const demoTokenizer = new ModelTokenizer(join(MODELS, "base"), {});
export const DEMO_VOCAB = 2048;
export const DEMO_EOS = new Set(readConfig(join(MODELS, "base")).eosIds);

/** @param name of a folder in infra/models */
export const demoDecoder = (name: string) =>
  loadDecoder(join(MODELS, name), { dtype: "fp32", intraOpThreads: 1 });

export async function demoModels(): Promise<Models> {
  return {
    base: await demoDecoder("base"),
    expert: await demoDecoder("gsm-expert"),
    antiexpert: await demoDecoder("antiexpert"),
    vocabSize: DEMO_VOCAB,
  };
}

export interface DemoJob {
  readonly prompt: readonly number[];
  readonly sampling?: Partial<Sampling>;
  readonly maxTokens?: number;
  readonly changes?: Partial<
    Pick<
      GenerateRequest,
      "alpha" | "pairs" | "schedule" | "guards" | "forcedTokens" | "tenant" | "baseErrorMax"
    >
  >;
  readonly constrain?: () => Constraint;
  /** Ids that are never sampled. */
  readonly unusedIds?: readonly number[];
  readonly trace?: boolean;
}

/** A request of the demo family, steered with alpha 1 unless it says otherwise. */
export function demoRequest(models: Models, job: DemoJob): GenerateRequest {
  const { prompt, maxTokens = 48, changes = {} } = job;
  const constraint = job.constrain?.() ?? null;
  return {
    models,
    prompts: { base: prompt, expert: prompt, antiexpert: prompt },
    alpha: 1,
    ...changes,
    resume: [],
    sampler: new Sampler(sampling(job.sampling), prompt, job.unusedIds, constraint),
    ...(job.trace && { analysis: { logprobs: null, trace: true } }),
    output: new Output({
      decode: (ids) => demoTokenizer.decode(ids),
      stop: [],
      eosIds: DEMO_EOS,
      maxTokens,
      isComplete: () => constraint?.isComplete ?? false,
    }),
  };
}

export interface JobResult {
  readonly tokens: readonly number[];
  readonly analyses: readonly (TokenAnalysis | null)[];
  /** Null with a local base. */
  readonly counts: RemoteCounts | null;
}

/**
 * Runs a request in a batch of its own.
 * @param onStep called after each step with the tokens that it made
 */
export async function runJob(
  request: GenerateRequest,
  speculate = true,
  onStep: (sequence: Sequence, tokens: number) => void = () => {},
): Promise<JobResult> {
  const batch = new Batch({ speculate });
  const sequence = batch.add(request)!;
  const counts = sequence.remote;
  const [tokens, analyses] = [[] as number[], [] as (TokenAnalysis | null)[]];
  try {
    while (batch.size > 0) {
      if (await batch.ready()) continue;
      const steps = await batch.step();
      for (const step of steps) {
        if ("error" in step) throw step.error;
        tokens.push(step.token);
        analyses.push(step.analysis);
      }
      onStep(sequence, steps.length);
    }
    return { tokens, analyses, counts };
  } finally {
    batch.remove(sequence);
  }
}
