/** One running generation: its models' sequences, and how a set of logits becomes its next token. */
import { combineLogits } from "./decode/combine.ts";
import { RunningMean } from "./decode/draft.ts";
import { Guard, type Guards } from "./decode/guards.ts";
import type { Accepted, Output } from "./decode/output.ts";
import type { Sampler } from "./decode/sampler.ts";
import { alphaAt, type Knot } from "./decode/schedule.ts";
import { Reporter, type Report, type ReportOptions } from "./decode/trace.ts";
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
  /** Strength of the shift; with a schedule, the most that it comes to. At 0 expert and antiexpert are never run. */
  readonly alpha: number;
  readonly schedule?: readonly Knot[];
  readonly guards?: Guards;
  readonly sampler: Sampler;
  readonly output: Output;
  /** What to tell of each token; absent for nothing. */
  readonly report?: ReportOptions;
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
  | ({ readonly row: Row; readonly token: number; readonly report: Report | null } & Accepted)
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
  readonly #guard: Guard | null;
  readonly #reporter: Reporter | null;

  constructor(request: GenerateRequest) {
    const { models, prompts, alpha, resume, guards, report } = request;
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
    this.#guard = guards ? new Guard(guards, models.vocabSize) : null;
    this.#reporter = report ? new Reporter(report, models.vocabSize) : null;
  }

  get voices(): Voice[] {
    return [this.base, this.expert, this.antiexpert].filter((voice) => voice !== null);
  }

  /** Combines the logits [>= V] of a position, and takes its token from them. */
  choose(
    base: Float32Array,
    expert: Float32Array | undefined,
    antiexpert: Float32Array | undefined,
  ): Step {
    const { sampler, output } = this.request;
    try {
      const rows = [base, expert, antiexpert].map((row) => row && this.#withoutPadding(row));
      const alpha = this.#steer(rows[0]!, rows[1], rows[2]);
      const token = this.draw(this.logits);
      const report = this.#report(token, alpha, rows);
      sampler.accept(token);
      this.tokens.push(token);
      for (const voice of this.voices) voice.unseen = [token];
      return { row: this, token, report, ...output.accept(token) };
    } catch (error) {
      return { row: this, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** What the sampler would take from some logits [>= V] at the current position. */
  draw(logits: Float32Array): number {
    this.#scratch.set(logits.subarray(0, this.#scratch.length));
    return this.request.sampler.pick(this.#scratch);
  }

  /** Fills `logits`; returns the strength that schedule and guards left. */
  #steer(base: Float32Array, expert?: Float32Array, antiexpert?: Float32Array): number {
    const { alpha: most, schedule } = this.request;
    const alpha = schedule ? alphaAt(schedule, this.tokens.length) : most;
    if (!expert || !antiexpert || alpha === 0) {
      this.logits.set(base);
      return 0;
    }
    if (this.#guard) return this.#guard.steer(this.logits, base, expert, antiexpert, alpha);
    combineLogits(this.logits, base, expert, antiexpert, alpha);
    return alpha;
  }

  /** Before the sampler accepts the token: what the base would have taken is asked of the same position. */
  #report(
    token: number,
    alpha: number,
    [base, expert, antiexpert]: readonly (Float32Array | undefined)[],
  ): Report | null {
    if (!this.#reporter) return null;
    return this.#reporter.report({
      base: base!,
      expert: expert ?? null,
      antiexpert: antiexpert ?? null,
      steered: this.logits,
      alpha,
      token,
      baseToken: this.#reporter.traces && alpha !== 0 ? this.draw(base!) : token,
    });
  }

  #withoutPadding(row: Float32Array): Float32Array {
    const { vocabSize } = this.request.models;
    if (row.length < vocabSize) {
      throw new RangeError(`logits of ${row.length} for a vocabulary of ${vocabSize}`);
    }
    return row.subarray(0, vocabSize);
  }

  close(): void {
    for (const { decoder, sequence } of this.voices) decoder.close(sequence);
  }
}
