/**
 * Seeded jobs, each run in four ways: alone, alone with drafts, in company of others that join and leave, and taken over by another
 * worker after some of its tokens. The tokens must be the same.
 */
import { Batch } from "../../worker/engine/loop/batch.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import { generate } from "../../worker/engine/loop/generate.ts";
import type { GenerateRequest, Sequence } from "../../worker/engine/loop/sequence.ts";
import { sampling } from "../support/sampling.ts";

export interface Job {
  readonly prompt: readonly number[];
  readonly alpha: number;
  readonly temperature: number;
  readonly seed: number;
  readonly maxTokens: number;
  /** The step of its batch in which it joins. */
  readonly joins: number;
  /** Tokens that the worker before it has made, if it is taken over. */
  readonly taken: number;
}

/** Numbers in [0, 1) from a seed (mulberry32). */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param promptOf token ids for an index; jobs use any part of them */
export function seededJobs(
  count: number,
  {
    seed,
    maxTokens,
    promptOf,
  }: { seed: number; maxTokens: number; promptOf: (index: number) => readonly number[] },
): Job[] {
  const next = uniform(seed);
  const integer = (below: number) => Math.floor(next() * below);
  return Array.from({ length: count }, (_, index): Job => {
    const prompt = promptOf(index);
    const ids = prompt.slice(-1 - integer(prompt.length));
    return {
      prompt: ids,
      alpha: [0, 0.5, 1, 1.5][integer(4)]!,
      temperature: [0, 0, 0.7, 1][integer(4)]!,
      seed: integer(2 ** 31),
      maxTokens,
      joins: integer(3 * maxTokens),
      taken: 1 + integer(maxTokens - 1),
    };
  });
}

export const WAYS = ["drafted", "in company", "taken over"] as const;
/** For each way the jobs whose tokens differ, as indexes. */
export type Differences = Readonly<Record<(typeof WAYS)[number], number[]>>;

/** Runs jobs in all ways, `width` of them in company. */
export async function compareWays(
  models: Models,
  jobs: readonly Job[],
  width: number,
): Promise<Differences> {
  const differences = {
    drafted: [] as number[],
    "in company": [] as number[],
    "taken over": [] as number[],
  };
  const alone: number[][] = [];
  const check = (way: keyof Differences, index: number, tokens: readonly number[]) => {
    if (tokens.join() !== alone[index]!.join()) differences[way].push(index);
  };
  for (const job of jobs) alone.push(await tokensOf(request(models, job), false));
  for (const [i, job] of jobs.entries()) {
    check("drafted", i, await tokensOf(request(models, job), true));
    const resume = alone[i]!.slice(0, job.taken);
    const rest = await tokensOf(request(models, job, resume), i % 2 === 0);
    check("taken over", i, [...resume, ...rest]);
  }
  for (const [i, tokens] of (await inCompany(models, jobs, width)).entries())
    check("in company", i, tokens);
  return differences;
}

/** A request without end tokens, so that each job uses its whole token limit. */
function request(models: Models, job: Job, resume: readonly number[] = []): GenerateRequest {
  const { prompt, alpha, temperature, seed, maxTokens } = job;
  return {
    models,
    prompts: { base: prompt, expert: prompt, antiexpert: prompt },
    alpha,
    resume,
    sampler: new Sampler(sampling({ temperature, seed }), prompt),
    output: new Output({ decode: () => "", stop: [], eosIds: new Set(), maxTokens }),
  };
}

async function tokensOf(request: GenerateRequest, speculate: boolean): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of generate(request, { speculate })) tokens.push(token);
  return tokens;
}

/** The tokens of jobs in one batch, of which `width` run at once. */
async function inCompany(models: Models, jobs: readonly Job[], width: number): Promise<number[][]> {
  const batch = new Batch({ speculate: true });
  const indexes = new Map<Sequence, number>();
  const tokens = jobs.map((): number[] => []);
  let added = 0;
  for (let step = 0; added < jobs.length || batch.size > 0; step++) {
    const job = jobs[added];
    if (job && batch.size < width && (batch.size === 0 || job.joins % 3 === step % 3)) {
      indexes.set(batch.add(request(models, job))!, added++);
    }
    for (const each of await batch.step()) {
      if ("error" in each) throw each.error;
      tokens[indexes.get(each.sequence)!]!.push(each.token);
    }
  }
  return tokens;
}
