/**
 * THE loop: prefill, combine, sample, stop. All running generations take each step together; every row has its own
 * models, prompts, alpha, sampling and end. It works on token ids and logits and knows no queue, thread or text template.
 */
import { combineLogits } from "./decode/combine.ts";
import type { Accepted, Output } from "./decode/output.ts";
import type { Sampler } from "./decode/sampler.ts";
import type { Decoder, Turn } from "./model/decoder.ts";

const ROLES = ["base", "expert", "antiexpert"] as const;
type Role = (typeof ROLES)[number];

/** The three models of a row. */
export interface Models extends Readonly<Record<Role, Decoder>> {
  /** V: tokens that exist. A model's logits may be wider; the rest is padding and never drawn. */
  readonly vocabSize: number;
}

/** One tokenized prompt per model: each may have its own template, and all share the generated tokens. */
export type Prompts = Readonly<Record<Role, readonly number[]>>;

export interface GenerateRequest {
  readonly models: Models;
  readonly prompts: Prompts;
  /** Strength of the shift. At 0 expert and antiexpert are never run. */
  readonly alpha: number;
  readonly sampler: Sampler;
  readonly output: Output;
  /** Tokens that an earlier attempt has generated: replayed, not generated again. */
  readonly resume: readonly number[];
}

/** One model's part in a row. */
interface Voice {
  readonly role: Role;
  readonly decoder: Decoder;
  readonly sequence: unknown;
  /** Tokens that the model has not seen yet; the last of them is always decoded, for its logits. */
  unseen: readonly number[];
}

export interface Row {
  readonly request: GenerateRequest;
  readonly voices: readonly Voice[];
  /** [V] the steered logits of the last step, before sampling. */
  readonly logits: Float32Array;
}

/** A row's new token, or why the row could not go on. */
export type Step =
  | ({ readonly row: Row; readonly token: number } & Accepted)
  | { readonly row: Row; readonly error: Error };

/** Prompt tokens that one step may prefill: the others wait that long for their next token. */
const PREFILL_CHUNK_TOKENS = 128;

export class Batch {
  readonly #rows = new Set<Row>();
  #scratch = new Float32Array(0);

  get size(): number {
    return this.#rows.size;
  }

  /** Adds a row; it takes part from the next step on. Returns null if the resumed tokens already finish the output. */
  add(request: GenerateRequest): Row | null {
    const { models, prompts, alpha, sampler, output, resume } = request;
    for (const token of resume) {
      sampler.accept(token);
      if (output.accept(token).finish) return null;
    }
    const roles = alpha === 0 ? (["base"] as const) : ROLES;
    const voices = roles.map((role) => {
      const decoder = models[role];
      return { role, decoder, sequence: decoder.open(), unseen: [...prompts[role], ...resume] };
    });
    const row = { request, voices, logits: new Float32Array(models.vocabSize) };
    this.#rows.add(row);
    return row;
  }

  /** Takes a row out, finished or not; its place in the caches is free at once. */
  remove(row: Row): void {
    if (!this.#rows.delete(row)) return;
    for (const { decoder, sequence } of row.voices) decoder.close(sequence);
  }

  /** Prefills one chunk, then gives every row whose prompt is through one token. Rows that finish are taken out. */
  async step(): Promise<Step[]> {
    await this.#prefillOne();
    const ready = [...this.#rows].filter((row) =>
      row.voices.every(({ unseen }) => unseen.length === 1),
    );
    const logits = await decodeAll(ready.flatMap(({ voices }) => voices));
    const steps = ready.map((row) => this.#choose(row, logits));
    for (const step of steps) if ("error" in step || step.finish) this.remove(step.row);
    return steps;
  }

  async #prefillOne(): Promise<void> {
    for (const { voices } of this.#rows) {
      const voice = voices.find(({ unseen }) => unseen.length > 1);
      if (!voice) continue;
      const count = Math.min(PREFILL_CHUNK_TOKENS, voice.unseen.length - 1);
      await voice.decoder.prefill(voice.sequence, voice.unseen.slice(0, count));
      voice.unseen = voice.unseen.slice(count);
      return;
    }
  }

  /** Combines, samples and stops for one row. */
  #choose(row: Row, logitsOf: ReadonlyMap<Voice, Float32Array>): Step {
    const { models, alpha, sampler, output } = row.request;
    const [base, expert, antiexpert] = row.voices.map((voice) => logitsOf.get(voice)!);
    if (expert && antiexpert) combineLogits(row.logits, base!, expert, antiexpert, alpha);
    else row.logits.set(base!.subarray(0, models.vocabSize));
    try {
      const token = sampler.pick(this.#copy(row.logits));
      sampler.accept(token);
      for (const voice of row.voices) voice.unseen = [token];
      return { row, token, ...output.accept(token) };
    } catch (error) {
      return { row, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** A copy for the sampler to overwrite. */
  #copy(logits: Float32Array): Float32Array {
    if (this.#scratch.length !== logits.length) this.#scratch = new Float32Array(logits.length);
    this.#scratch.set(logits);
    return this.#scratch;
  }
}

/** Decodes the one unseen token of every voice: one run per model, one after the other, which beats side by side. */
async function decodeAll(voices: readonly Voice[]): Promise<Map<Voice, Float32Array>> {
  const logits = new Map<Voice, Float32Array>();
  for (const [decoder, group] of Map.groupBy(voices, (voice) => voice.decoder)) {
    const turns = group.map(({ sequence, unseen }): Turn<unknown> => ({
      sequence,
      id: unseen[0]!,
    }));
    const rows = await decoder.decode(turns);
    for (const [i, voice] of group.entries()) logits.set(voice, rows[i]!);
  }
  return logits;
}

/** One generation alone: yields its steps until it finishes. */
export async function* generate(
  request: GenerateRequest,
): AsyncGenerator<{ row: Row; token: number } & Accepted, void, undefined> {
  const batch = new Batch();
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
