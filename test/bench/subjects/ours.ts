/** Our engine as the worker runs it: the batch of worker/generate.ts over decoders that the worker's own code loads. */
import { allDrafts } from "../../../worker/decode/draft.ts";
import { Output } from "../../../worker/decode/output.ts";
import { Sampler } from "../../../worker/decode/sampler.ts";
import { Batch } from "../../../worker/generate.ts";
import { loadDecoder } from "../../../worker/model/files.ts";
import type { Models } from "../../../worker/parts.ts";
import type { Row } from "../../../worker/row.ts";
import {
  ALPHA,
  GREEDY,
  type Mode,
  type Sample,
  type Subject,
  type SubjectOptions,
  type Task,
} from "./subject.ts";

/** The demo family's tokenizer. */
const VOCAB_SIZE = 2048;
const EOS_ID = 0;
const PREFILL_CHUNK_TOKENS = 128;
const WARM_STEPS = 2;

export async function loadOurs({ family, dtype }: SubjectOptions): Promise<Subject> {
  const options = { dtype, intraOpThreads: 0 };
  const models: Models = {
    base: await loadDecoder(family.base, options),
    expert: await loadDecoder(family.expert, options),
    antiexpert: await loadDecoder(family.antiexpert, options),
    vocabSize: VOCAB_SIZE,
  };
  return {
    measure: (task) =>
      (task.prompts.length > 1 && task.mode !== "speculative" ? together : inTurn)(models, task),
  };
}

/** Every prompt from its request to its end, through all steps of the loop. */
async function inTurn(models: Models, { mode, prompts, tokens }: Task): Promise<Sample> {
  const batch = new Batch({ speculate: mode === "speculative" });
  const firsts: number[] = [];
  let [decodeMs, decodedTokens, drafted, accepted] = [0, 0, 0, 0];
  for (const prompt of prompts) {
    const startedMs = performance.now();
    const row = add(batch, models, mode, prompt, tokens);
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
    const drafts = allDrafts(row.drafts);
    drafted += drafts.drafted;
    accepted += drafts.accepted;
    firsts.push(firstMs - startedMs);
  }
  const firstTokenMs = firsts.reduce((sum, ms) => sum + ms, 0) / firsts.length;
  return { decodeMs, decodedTokens, firstTokenMs, drafted, accepted };
}

/**
 * Rows side by side. They are prefilled from outside, or the first would be far ahead of the last; and since what a prompt
 * says does not change the time of a step, all have the first one's cache: prefilling each would take most of the bench.
 */
async function together(models: Models, { mode, prompts, tokens }: Task): Promise<Sample> {
  const batch = new Batch({ speculate: false });
  const rows = prompts.map(() => add(batch, models, mode, prompts[0]!, tokens + WARM_STEPS));
  for (const [i, { decoder, sequence, unseen }] of rows[0]!.voices.entries()) {
    const count = unseen.length - 1;
    for (let at = 0; at < count; at += PREFILL_CHUNK_TOKENS) {
      await decoder.prefill(sequence, unseen.slice(at, Math.min(at + PREFILL_CHUNK_TOKENS, count)));
    }
    const prefilled = decoder.rows!.read(sequence, 0, count);
    for (const row of rows.slice(1)) {
      decoder.rows!.append(row.voices[i]!.sequence, [prefilled], count);
    }
  }
  for (const voice of rows.flatMap(({ voices }) => voices)) voice.unseen = voice.unseen.slice(-1);
  for (let i = 0; i < WARM_STEPS; i++) await batch.step();
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
): Row {
  const row = batch.add({
    models,
    prompts: { base: prompt, expert: prompt, antiexpert: prompt },
    alpha: mode === "base" ? 0 : ALPHA,
    resume: [],
    sampler: new Sampler(GREEDY, prompt),
    output: new Output({
      decode: () => "",
      stop: [],
      // Drafts are as good as the text is natural, so only there does an answer end where it ends.
      eosIds: new Set(mode === "speculative" ? [EOS_ID] : []),
      maxTokens: tokens,
    }),
  });
  return row!;
}
