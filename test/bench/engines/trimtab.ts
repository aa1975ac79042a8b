/** trimtab's engine as in a worker: the decode loop (worker/engine/loop/batch.ts) with decoders loaded by the worker's code. */
import { totalDrafts } from "../../../worker/engine-client/messages.ts";
import { Output } from "../../../worker/engine/decode/output.ts";
import { Sampler } from "../../../worker/engine/decode/sampler.ts";
import { Batch } from "../../../worker/engine/loop/batch.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import type { Models } from "../../../worker/engine/model/ensemble.ts";
import { family } from "../models/family.ts";
import type { Sequence } from "../../../worker/engine/loop/sequence.ts";
import {
  ALPHA,
  GREEDY,
  type Mode,
  type Sample,
  type BenchEngine,
  type BenchEngineOptions,
  type Task,
} from "./engine.ts";

/** Of the demo family's tokenizer. */
const VOCAB_SIZE = 2048;
const EOS_ID = 0;
const PREFILL_CHUNK_TOKENS = 128;
/** Steps of a batch before the measurement. */
const WARM_UP_STEPS = 2;

export async function loadTrimtab(engine: BenchEngineOptions): Promise<BenchEngine> {
  const { base, expert, antiexpert } = family(engine.family);
  const { dtype, executionProvider = "cpu" } = engine;
  const options = { dtype, executionProvider, intraOpThreads: 0 };
  const models: Models = {
    base: await loadDecoder(base, options),
    expert: await loadDecoder(expert, options),
    antiexpert: await loadDecoder(antiexpert, options),
    vocabSize: VOCAB_SIZE,
  };
  return {
    measure: (task) =>
      (task.prompts.length > 1 && task.mode !== "speculative" ? measureBatch : measureOneByOne)(
        models,
        task,
      ),
  };
}

/** Runs every prompt alone, from its request to its end. */
async function measureOneByOne(models: Models, { mode, prompts, tokens }: Task): Promise<Sample> {
  const batch = new Batch({ speculate: mode === "speculative" });
  const firstTokenTimesMs: number[] = [];
  let [decodeMs, decodedTokens, drafted, accepted] = [0, 0, 0, 0];
  for (const prompt of prompts) {
    const startedMs = performance.now();
    const sequence = add(batch, models, mode, prompt, tokens);
    let [firstMs, count] = [0, 0];
    while (batch.size > 0) {
      count += (await batch.step()).length;
      if (count > 0 && firstMs === 0) {
        firstMs = performance.now();
        decodedTokens -= count;
      }
    }
    decodeMs += performance.now() - firstMs;
    decodedTokens += count;
    const drafts = totalDrafts(sequence.drafts);
    drafted += drafts.drafted;
    accepted += drafts.accepted;
    firstTokenTimesMs.push(firstMs - startedMs);
  }
  const firstTokenMs =
    firstTokenTimesMs.reduce((sum, ms) => sum + ms, 0) / firstTokenTimesMs.length;
  return { decodeMs, decodedTokens, firstTokenMs, drafted, accepted };
}

/**
 * Runs several sequences as a batch. They are prefilled here and not by the batch, so that all of them start to decode in the
 * same step. All get the first prompt's KV cache: the content of a prompt does not change the time of a step, and prefilling
 * each one would take most of the bench's time.
 */
async function measureBatch(models: Models, { mode, prompts, tokens }: Task): Promise<Sample> {
  const batch = new Batch({ speculate: false });
  const sequences = prompts.map(() =>
    add(batch, models, mode, prompts[0]!, tokens + WARM_UP_STEPS),
  );
  const [first, ...others] = sequences as [Sequence, ...Sequence[]];
  for (const [i, { decoder, decoderSequence, pendingTokens }] of first.modelStates.entries()) {
    const count = pendingTokens.length - 1;
    for (let start = 0; start < count; start += PREFILL_CHUNK_TOKENS) {
      const end = Math.min(start + PREFILL_CHUNK_TOKENS, count);
      await decoder.prefill(decoderSequence, pendingTokens.slice(start, end));
    }
    const prefilled = decoder.kvRows?.read(decoderSequence, 0, count);
    for (const { modelStates } of others) {
      const other = modelStates[i]!.decoderSequence;
      if (prefilled) decoder.kvRows!.append(other, [prefilled], count);
      else await decoder.prefill(other, pendingTokens.slice(0, count));
    }
  }
  for (const state of sequences.flatMap(({ modelStates }) => modelStates)) {
    state.pendingTokens = state.pendingTokens.slice(-1);
  }
  for (let i = 0; i < WARM_UP_STEPS; i++) await batch.step();
  const startedMs = performance.now();
  let decodedTokens = 0;
  while (batch.size > 0) decodedTokens += (await batch.step()).length;
  const decodeMs = performance.now() - startedMs;
  return { decodeMs, decodedTokens, firstTokenMs: null, drafted: 0, accepted: 0 };
}

function add(
  batch: Batch,
  models: Models,
  mode: Mode,
  prompt: readonly number[],
  tokens: number,
): Sequence {
  const sequence = batch.add({
    models,
    prompts: { base: prompt, expert: prompt, antiexpert: prompt },
    alpha: mode === "base" ? 0 : ALPHA,
    resume: [],
    sampler: new Sampler(GREEDY, prompt),
    output: new Output({
      decode: () => "",
      stop: [],
      // Drafts are accepted only in natural text, so with speculation an answer ends at its end-of-sequence token.
      eosIds: new Set(mode === "speculative" ? [EOS_ID] : []),
      maxTokens: tokens,
    }),
  });
  return sequence!;
}
