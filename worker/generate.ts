/**
 * THE loop: prefill, decode, combine, sample, stop. All running generations take each step together; every row has its
 * own models, prompts, alpha, sampling and end. It works on token ids and logits and knows no queue, thread or text
 * template. How a row's logits become its token is in row.ts, drafting ahead in speculate.ts.
 */
import type { PrefixCache } from "./model/prefix-cache.ts";
import { Row, type GenerateRequest, type Step, type Voice } from "./row.ts";
import { Speculation } from "./speculate.ts";
import { verify } from "./verify.ts";

/** Prompt tokens that one step may prefill: the others wait that long for their next token. */
const PREFILL_CHUNK_TOKENS = 128;

/** Tokens of a given text that one step scores: the others wait for it, and the logits of all are held at once. */
export const SCORE_CHUNK_TOKENS = 32;

export interface BatchOptions {
  /** Draft ahead while a row is alone. Changes the speed only. */
  readonly speculate: boolean;
  /** Where rows of earlier prompts are found again; absent for nowhere. */
  readonly prefixes?: PrefixCache;
}

export class Batch {
  readonly #rows = new Map<Row, Speculation | null>();
  readonly #speculate: boolean;
  readonly #prefixes: PrefixCache | null;

  constructor({ speculate, prefixes }: BatchOptions = { speculate: true }) {
    this.#speculate = speculate;
    this.#prefixes = prefixes ?? null;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** Adds a row; it takes part from the next step on. Returns null if the resumed tokens already finish the output. */
  add(request: GenerateRequest): Row | null {
    for (const token of request.resume) {
      request.sampler.accept(token);
      if (request.output.accept(token).finish) return null;
    }
    const row = new Row(request);
    const drafts = this.#speculate && !request.forced && Speculation.isPossible(row);
    this.#rows.set(row, drafts ? new Speculation() : null);
    return row;
  }

  /** Takes a row out, finished or not; its place in the caches is free at once. */
  remove(row: Row): void {
    if (this.#rows.delete(row)) row.close();
  }

  /** What a row has learned about its drafters; null if it does not draft. */
  speculation(row: Row): Speculation | null {
    return this.#rows.get(row) ?? null;
  }

  /**
   * Prefills up to a chunk, then gives every row whose prompt is through its next token, and one whose text is given
   * its next ones. Rows that finish are taken out.
   */
  async step(): Promise<Step[]> {
    await this.#prefillSome();
    const ready = [...this.#rows.keys()].filter((row) =>
      row.voices.every(({ unseen }) => unseen.length === 1),
    );
    const given = ready.find(({ request }) => request.forced);
    const drawn = ready.filter(({ request }) => !request.forced);
    const [only] = drawn;
    const alone = this.#rows.size === 1 && only ? this.#rows.get(only) : null;
    const steps = (alone && (await alone.step(only!))) ?? (await this.#decode(drawn));
    if (given) steps.push(...(await verify(given, given.forced(SCORE_CHUNK_TOKENS).slice(0, -1))));
    for (const step of steps) {
      const { row } = step;
      if (!("error" in step) && !step.finish) continue;
      // The answer is part of the conversation's next prompt.
      if (!("error" in step)) for (const voice of row.voices) this.#keep(row, voice);
      this.remove(row);
    }
    return steps;
  }

  async #prefillSome(): Promise<void> {
    let room = PREFILL_CHUNK_TOKENS;
    for (const row of this.#rows.keys()) {
      for (const voice of row.voices) {
        // Not when the row comes, but when its turn does: what came with it may have the same prefix.
        if (room > 0) this.#restore(row, voice);
        const count = Math.min(room, voice.unseen.length - 1);
        if (count === 0) continue;
        await voice.decoder.prefill(voice.sequence, voice.unseen.slice(0, count));
        voice.unseen = voice.unseen.slice(count);
        room -= count;
        if (voice.unseen.length === 1) this.#keep(row, voice);
      }
    }
  }

  #restore(row: Row, voice: Voice): void {
    const { tenant } = row.request;
    const { decoder, sequence, unseen } = voice;
    if (!this.#prefixes || tenant === undefined) return;
    if (unseen.length === 1 || row.seenBy(voice).length > 0) return;
    const count = this.#prefixes.restore(tenant, decoder, sequence, unseen);
    voice.unseen = unseen.slice(count);
    if (voice === row.voices[0]) row.cachedTokens = Math.min(count, voice.prompt.length);
  }

  #keep(row: Row, voice: Voice): void {
    const { tenant } = row.request;
    const { decoder, sequence } = voice;
    if (tenant !== undefined) {
      this.#prefixes?.keep(tenant, decoder, sequence, row.seenBy(voice));
    }
  }

  async #decode(rows: readonly Row[]): Promise<Step[]> {
    const logits = await decodeAll(rows.flatMap(({ voices }) => voices));
    return rows.map((row) => {
      const step = row.choose(row.voices.map((voice) => logits.get(voice)!));
      if (!("error" in step) && this.size === 1) {
        this.#rows.get(row)?.learn(row, step.token, row.drafter && logits.get(row.drafter)!);
      }
      return step;
    });
  }
}

/** Decodes the one unseen token of every voice: one run per model, one after the other, which beats side by side. */
async function decodeAll(voices: readonly Voice[]): Promise<Map<Voice, Float32Array>> {
  const logits = new Map<Voice, Float32Array>();
  for (const [decoder, group] of Map.groupBy(voices, (voice) => voice.decoder)) {
    const startedMs = performance.now();
    const rows = await decoder.decode(
      group.map(({ sequence, unseen }) => ({ sequence, id: unseen[0]! })),
    );
    if (group.length === 1) group[0]!.runMs.observe(performance.now() - startedMs);
    for (const [i, voice] of group.entries()) logits.set(voice, rows[i]!);
  }
  return logits;
}

/** One generation alone: yields its steps until it finishes. */
export async function* generate(
  request: GenerateRequest,
  options?: BatchOptions,
): AsyncGenerator<Exclude<Step, { error: Error }>, void, undefined> {
  const batch = new Batch(options);
  const row = batch.add(request);
  try {
    while (batch.size > 0) {
      for (const step of await batch.step()) {
        if ("error" in step) throw step.error;
        yield step;
      }
    }
  } finally {
    if (row) batch.remove(row);
  }
}
