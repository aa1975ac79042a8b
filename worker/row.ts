/** One running generation: its models' sequences, and how a set of logits becomes its next token. */
import { combineLogits } from "./decode/combine.ts";
import { RunningMean } from "./decode/draft.ts";
import type { Accepted, Output } from "./decode/output.ts";
import type { Sampler } from "./decode/sampler.ts";
import type { Decoder } from "./model/decoder.ts";

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
export interface Voice {
  readonly decoder: Decoder;
  readonly sequence: unknown;
  /** Tokens that the model has not seen yet; the last of them is always decoded, for its logits. */
  unseen: readonly number[];
  /** Time of a run with one token. */
  readonly runMs: RunningMean;
}

/** A row's new token, or why the row could not go on. */
export type Step =
  | ({ readonly row: Row; readonly token: number } & Accepted)
  | { readonly row: Row; readonly error: Error };

export class Row {
  readonly request: GenerateRequest;
  readonly base: Voice;
  /** Absent at alpha 0. */
  readonly expert: Voice | null;
  readonly antiexpert: Voice | null;
  /** [V] the steered logits of the last step, before sampling. */
  readonly logits: Float32Array;
  /** Tokens generated so far, an earlier attempt's included. */
  readonly tokens: number[];
  readonly #scratch: Float32Array;

  constructor(request: GenerateRequest) {
    const { models, prompts, alpha, resume } = request;
    const voice = (role: Role): Voice => ({
      decoder: models[role],
      sequence: models[role].open(),
      unseen: [...prompts[role], ...resume],
      runMs: new RunningMean(1, 0),
    });
    this.request = request;
    this.base = voice("base");
    this.expert = alpha === 0 ? null : voice("expert");
    this.antiexpert = alpha === 0 ? null : voice("antiexpert");
    this.logits = new Float32Array(models.vocabSize);
    this.tokens = [...resume];
    this.#scratch = new Float32Array(models.vocabSize);
  }

  get voices(): Voice[] {
    return [this.base, this.expert, this.antiexpert].filter((voice) => voice !== null);
  }

  /** Combines the logits of a position, and takes its token from them. */
  choose(
    base: Float32Array,
    expert: Float32Array | undefined,
    antiexpert: Float32Array | undefined,
  ): Step {
    const { alpha, models, sampler, output } = this.request;
    try {
      if (expert && antiexpert) combineLogits(this.logits, base, expert, antiexpert, alpha);
      else if (base.length >= models.vocabSize) this.logits.set(base.subarray(0, models.vocabSize));
      else throw new RangeError(`logits of ${base.length} for a vocabulary of ${models.vocabSize}`);
      const token = this.draw(this.logits);
      sampler.accept(token);
      this.tokens.push(token);
      for (const voice of this.voices) voice.unseen = [token];
      return { row: this, token, ...output.accept(token) };
    } catch (error) {
      return { row: this, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** What the sampler would take from some logits [>= V] at the current position. */
  draw(logits: Float32Array): number {
    this.#scratch.set(logits.subarray(0, this.#scratch.length));
    return this.request.sampler.pick(this.#scratch);
  }

  close(): void {
    for (const { decoder, sequence } of this.voices) decoder.close(sequence);
  }
}
