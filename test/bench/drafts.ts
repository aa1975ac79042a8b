/**
 * Drafts in company: proxy-tuned sequences that run together, with drafts and without, in turns. When one ends, the next question takes
 * its place, so the number of sequences stays the same. Only decoding is measured. `node drafts.ts DTYPE`, for the inflated family; the
 * result is sent to the parent process.
 */
import { totalDrafts } from "../../worker/engine-client/messages.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import type { KvRows } from "../../worker/engine/decoder/kv-cache.ts";
import { Batch } from "../../worker/engine/loop/batch.ts";
import type { Sequence } from "../../worker/engine/loop/sequence.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import { ALPHA, GREEDY } from "./engines/engine.ts";
import { family, ROLES, type Role } from "./models/family.ts";
import type { Dtype } from "./plan.ts";
import { benchPrompt } from "./prompts.ts";
import { summarize, type Summary } from "./statistics.ts";
import { formatNumber, formatRange, printLines } from "./table.ts";

/** Of the demo family's tokenizer. */
const VOCAB_SIZE = 2048;
const EOS_ID = 0;

interface Case {
  readonly context: number;
  readonly sequences: number;
  /** Steered away from the expert, and sampled at a high temperature, so that hardly a draft of the expert is right. */
  readonly isOpposed: boolean;
}

const USUAL = { alpha: ALPHA, temperature: 0 };
const OPPOSED = { alpha: -3, temperature: 1.5 };

/** At 1,024 tokens the texts go beyond the length that the models were trained for, and fewer drafts are right. */
const CASES: readonly Case[] = [
  { context: 128, sequences: 1, isOpposed: false },
  { context: 128, sequences: 2, isOpposed: false },
  { context: 128, sequences: 4, isOpposed: false },
  { context: 128, sequences: 8, isOpposed: false },
  { context: 1024, sequences: 4, isOpposed: false },
  { context: 128, sequences: 1, isOpposed: true },
  { context: 128, sequences: 4, isOpposed: true },
];

const ROUNDS = 7;
/** Different questions; their KV caches are kept, so that each is prefilled once. */
const questionsOf = (context: number) => (context > 512 ? 6 : 24);
const TOKENS_MAX = 48;
/** Tokens of a sample for each sequence, and before it. */
const SAMPLE_TOKENS = 32;
const WARM_UP_TOKENS = 6;

export interface DraftsResult {
  readonly dtype: Dtype;
  readonly cases: readonly (Case & {
    /** Processor time of a token without and with drafts, in ms. */
    readonly plainCpuMs: Summary;
    readonly draftedCpuMs: Summary;
    /** Tokens for the same processor time, with drafts divided by without; and for the same time. Within a round. */
    readonly cpuGain: Summary;
    readonly gain: Summary;
    /** Fraction of the drafts that were right; null without any. */
    readonly acceptance: number | null;
    /** Drafts for each token. */
    readonly draftsPerToken: number;
  })[];
}

/** Targets: for four sequences with 128 tokens in fp32, and where drafts are seldom right. */
const GAIN_MIN = 1.3;
const OPPOSED_GAIN_MIN = 0.95;

export function printDrafts(results: readonly DraftsResult[]): void {
  console.log("\ndrafts of sequences that run together; processor time of a token\n");
  printLines([
    [
      "format",
      "prompt",
      "sequences",
      "steering",
      "plain ms",
      "drafted ms",
      "gain",
      "gain in time",
      "drafts",
      "right",
    ],
    ...results.flatMap(({ dtype, cases }) =>
      cases.map((one) => [
        dtype,
        String(one.context),
        String(one.sequences),
        one.isOpposed ? "opposed" : "usual",
        formatNumber(one.plainCpuMs.median),
        formatNumber(one.draftedCpuMs.median),
        formatRange(one.cpuGain),
        formatRange(one.gain),
        `${one.draftsPerToken.toFixed(2)} a token`,
        one.acceptance === null ? "-" : `${(100 * one.acceptance).toFixed(0)}%`,
      ]),
    ),
  ]);
  for (const { dtype, cases } of results) {
    for (const { context, sequences, isOpposed, cpuGain } of cases) {
      const isTarget = isOpposed || (dtype === "fp32" && context === 128 && sequences === 4);
      if (!isTarget) continue;
      const min = isOpposed ? OPPOSED_GAIN_MIN : GAIN_MIN;
      const verdict = cpuGain.median >= min ? "met" : "MISSED";
      console.log(
        `\n${sequences} sequences${isOpposed ? ", opposed" : ""}, ${dtype}: ${cpuGain.median.toFixed(2)}, target ${verdict}: at least ${min}`,
      );
    }
  }
}

interface Sample {
  readonly cpuMs: number;
  readonly ms: number;
  readonly drafted: number;
  readonly accepted: number;
  readonly tokens: number;
}

/** A prompt, and each model's cache of all its tokens but the last. */
interface Question {
  readonly prompt: readonly number[];
  readonly rows: Readonly<Record<Role, KvRows>>;
}

async function prefill(models: Models, context: number, index: number): Promise<Question> {
  const prompt = benchPrompt(context, index);
  const rows = {} as Record<Role, KvRows>;
  for (const role of ROLES) {
    const decoder = models[role];
    const sequence = decoder.open();
    for (let start = 0; start < context - 1; start += 128) {
      await decoder.prefill(sequence, prompt.slice(start, Math.min(start + 128, context - 1)));
    }
    rows[role] = decoder.kvRows!.read(sequence, 0, context - 1);
    decoder.close(sequence);
  }
  return { prompt, rows };
}

/** Sequences in one batch, each followed by the next question. */
class Company {
  readonly #models: Models;
  readonly #batch: Batch;
  readonly #questions: readonly Question[];
  readonly #steering: typeof USUAL;
  readonly #ended: Sequence[] = [];
  readonly #running = new Set<Sequence>();
  #next: number;

  /** @param first index of the first question */
  constructor(
    models: Models,
    batch: Batch,
    questions: readonly Question[],
    { first, steering }: { readonly first: number; readonly steering: typeof USUAL },
  ) {
    this.#steering = steering;
    this.#models = models;
    this.#batch = batch;
    this.#questions = questions;
    this.#next = first;
  }

  async measure(sequences: number): Promise<Sample> {
    await this.#run(sequences, WARM_UP_TOKENS * sequences);
    const before = this.#drafts();
    const sample = await this.#run(sequences, SAMPLE_TOKENS * sequences);
    const after = this.#drafts();
    for (const sequence of this.#running) this.#batch.remove(sequence);
    return {
      ...sample,
      drafted: after.drafted - before.drafted,
      accepted: after.accepted - before.accepted,
    };
  }

  async #run(sequences: number, tokensMin: number) {
    let [cpuMs, ms, tokens] = [0, 0, 0];
    while (tokens < tokensMin) {
      while (this.#running.size < sequences) this.#add();
      const [cpu, startedMs] = [process.cpuUsage(), performance.now()];
      const steps = await this.#batch.step();
      const { user, system } = process.cpuUsage(cpu);
      ms += performance.now() - startedMs;
      cpuMs += (user + system) / 1000;
      tokens += steps.length;
      for (const step of steps) {
        if ("error" in step) throw step.error;
        if (!step.finish) continue;
        this.#running.delete(step.sequence);
        this.#ended.push(step.sequence);
      }
    }
    return { cpuMs, ms, tokens };
  }

  #add(): void {
    const { alpha, temperature } = this.#steering;
    const seed = this.#next;
    const { prompt, rows } = this.#questions[this.#next++ % this.#questions.length]!;
    const sequence = this.#batch.add({
      models: this.#models,
      prompts: { base: prompt, expert: prompt, antiexpert: prompt },
      alpha,
      resume: [],
      sampler: new Sampler({ ...GREEDY, temperature, seed }, prompt),
      output: new Output({
        decode: () => "",
        stop: [],
        eosIds: new Set([EOS_ID]),
        maxTokens: TOKENS_MAX,
      }),
    })!;
    for (const [i, state] of sequence.modelStates.entries()) {
      const { decoder, decoderSequence } = state;
      decoder.kvRows!.append(decoderSequence, [rows[ROLES[i]!]], prompt.length - 1);
      state.pendingTokens = prompt.slice(-1);
    }
    this.#running.add(sequence);
  }

  #drafts() {
    const counts = [...this.#ended, ...this.#running].map(({ drafts }) => totalDrafts(drafts));
    const sum = (key: "drafted" | "accepted") =>
      counts.reduce((total, count) => total + count[key], 0);
    return { drafted: sum("drafted"), accepted: sum("accepted") };
  }
}

async function run(dtype: Dtype): Promise<DraftsResult> {
  const folders = family("inflated");
  const load = (role: Role) => loadDecoder(folders[role], { dtype, intraOpThreads: 0 });
  const models: Models = {
    base: await load("base"),
    expert: await load("expert"),
    antiexpert: await load("antiexpert"),
    vocabSize: VOCAB_SIZE,
  };
  const questions = new Map<number, Question[]>();
  for (const context of new Set(CASES.map((one) => one.context))) {
    const all: Question[] = [];
    for (let i = 0; i < questionsOf(context); i++) all.push(await prefill(models, context, i));
    questions.set(context, all);
  }
  // As in a worker, a batch goes on, and so does what it has measured.
  const batches = { plain: new Batch({ speculate: false }), drafted: new Batch() };
  const samples = CASES.map(() => ({ plain: [] as Sample[], drafted: [] as Sample[] }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, { context, sequences, isOpposed }] of CASES.entries()) {
      const first = 5 * round;
      const steering = isOpposed ? OPPOSED : USUAL;
      for (const way of round % 2 === 0 ? WAYS : WAYS.toReversed()) {
        const all = questions.get(context)!;
        const company = new Company(models, batches[way], all, { first, steering });
        samples[i]![way].push(await company.measure(sequences));
      }
    }
  }
  return { dtype, cases: CASES.map((one, i) => ({ ...one, ...result(samples[i]!) })) };
}

const WAYS = ["plain", "drafted"] as const;

function result({ plain, drafted }: Record<(typeof WAYS)[number], Sample[]>) {
  const perToken = (samples: readonly Sample[], key: "cpuMs" | "ms") =>
    samples.map((sample) => sample[key] / sample.tokens);
  const gain = (key: "cpuMs" | "ms") => {
    const [before, after] = [perToken(plain, key), perToken(drafted, key)];
    return summarize(before.map((ms, round) => ms / after[round]!))!;
  };
  const sum = (key: "drafted" | "accepted" | "tokens") =>
    drafted.reduce((total, sample) => total + sample[key], 0);
  return {
    plainCpuMs: summarize(perToken(plain, "cpuMs"))!,
    draftedCpuMs: summarize(perToken(drafted, "cpuMs"))!,
    cpuGain: gain("cpuMs"),
    gain: gain("ms"),
    acceptance: sum("drafted") > 0 ? sum("accepted") / sum("drafted") : null,
    draftsPerToken: sum("drafted") / sum("tokens"),
  };
}

// Imported for its report, it runs nothing.
if (process.argv[1] === import.meta.filename) {
  process.send!(await run(process.argv[2] as Dtype));
  process.disconnect();
}
