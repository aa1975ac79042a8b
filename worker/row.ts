/** One running generation: its models' sequences, and how a set of logits becomes its next token. */
import { combineLogits } from "./decode/combine.ts";
import { noDrafts, RunningMean, type DraftCounts } from "./decode/draft.ts";
import { Guard, type Guards } from "./decode/guards.ts";
import { maskedMass } from "./decode/masked-mass.ts";
import { mixLogits } from "./decode/mix.ts";
import type { Accepted, Output } from "./decode/output.ts";
import type { Sampler } from "./decode/sampler.ts";
import { alphaAt, type Knot } from "./decode/schedule.ts";
import { Reporter, round, type Position, type Report, type ReportOptions } from "./decode/trace.ts";
import type { Decoder } from "./model/decoder.ts";
import { partsOf, type Casting, type PairParts } from "./parts.ts";

export interface GenerateRequest extends Casting {
  readonly schedule?: readonly Knot[];
  readonly guards?: Guards;
  readonly sampler: Sampler;
  readonly output: Output;
  /** What to tell of each token; absent for nothing. */
  readonly report?: ReportOptions;
  /** The tokens that come, whatever the logits say: a text that is scored instead of one that is generated. */
  readonly forced?: readonly number[];
  /** Tokens that an earlier attempt has generated: replayed, not generated again. */
  readonly resume: readonly number[];
  /** Whose prompt it is: only the same tenant's next one finds its rows again. Absent, nothing of it is kept. */
  readonly tenant?: string;
}

/** One model's part in a row. */
export interface Voice {
  readonly decoder: Decoder;
  readonly sequence: unknown;
  readonly prompt: readonly number[];
  /** Tokens that the model has not seen yet; the last of them is always decoded, for its logits. */
  unseen: readonly number[];
  /** Time of a run with one token. */
  readonly runMs: RunningMean;
}

/** A row's new token, or why the row could not go on. */
export type Step =
  | ({ readonly row: Row; readonly token: number; readonly report: Report | null } & Accepted)
  | { readonly row: Row; readonly error: Error };

/** The logits [V] of a position. */
type Rows = Pick<Position, "base" | "expert" | "antiexpert">;

export class Row {
  readonly request: GenerateRequest;
  /** The base's first; every model once. */
  readonly voices: readonly Voice[];
  /** The expert of the heaviest pair, which foretells best what comes out; null at alpha 0. */
  readonly drafter: Voice | null;
  /** [V] the steered logits of the last step, before sampling. */
  readonly logits: Float32Array;
  /** Tokens generated so far, an earlier attempt's included. */
  readonly tokens: number[];
  /** Tokens of the base's prompt whose rows were there already. */
  cachedTokens = 0;
  readonly drafts: DraftCounts = noDrafts();
  /** With weights that add up to 1. */
  readonly #pairs: readonly PairParts[];
  /** What the pairs' weights add up to. */
  readonly #weight: number;
  readonly #scratch: Float32Array;
  #weights: Float32Array | null = null;
  /** [V] what several experts say together, and several antiexperts. */
  readonly #mixed: Readonly<Record<"expert" | "antiexpert", Float32Array>> | null;
  readonly #guard: Guard | null;
  readonly #reporter: Reporter | null;

  constructor(request: GenerateRequest) {
    const { resume, guards, report } = request;
    const { vocabSize } = request.models;
    const { parts, pairs } = partsOf(request);
    const voices: Voice[] = [];
    this.request = request;
    this.voices = voices;
    try {
      for (const { decoder, prompt } of parts) {
        voices.push({
          decoder,
          sequence: decoder.open(),
          prompt,
          unseen: [...prompt, ...resume],
          runMs: new RunningMean(1, 0),
        });
      }
    } catch (error) {
      this.close();
      throw error;
    }
    const heaviest = pairs.toSorted((a, b) => b.weight - a.weight)[0];
    this.drafter = heaviest ? voices[heaviest.expert]! : null;
    this.logits = new Float32Array(vocabSize);
    this.tokens = [...resume];
    const total = pairs.reduce((sum, { weight }) => sum + weight, 0);
    this.#weight = total;
    this.#pairs = pairs.map((pair) => ({ ...pair, weight: pair.weight / total }));
    this.#scratch = new Float32Array(vocabSize);
    const row = () => new Float32Array(vocabSize);
    this.#mixed = pairs.length > 1 ? { expert: row(), antiexpert: row() } : null;
    this.#guard = guards ? new Guard(guards, vocabSize) : null;
    this.#reporter = report ? new Reporter(report, vocabSize) : null;
  }

  /** The tokens that a voice has seen: those whose rows are in its cache. */
  seenBy({ prompt, unseen }: Voice): number[] {
    return [...prompt, ...this.tokens].slice(0, -unseen.length);
  }

  /**
   * Combines the logits of a position, and takes its token from them.
   * @param logits [>= V] of each voice, in order
   */
  choose(logits: readonly Float32Array[]): Step {
    const { sampler, output } = this.request;
    try {
      const rows = logits.map((row) => this.#withoutPadding(row));
      const position: Rows = {
        base: rows[0]!,
        expert: this.#mix(rows, "expert"),
        antiexpert: this.#mix(rows, "antiexpert"),
      };
      let alpha = this.#steer(position);
      let masked = this.#maskedMass();
      if (masked === 1 && this.#guard) {
        // Guards may leave nothing that the constraint allows: of the two, the base has the word.
        this.logits.set(position.base);
        alpha = 0;
        masked = this.#maskedMass();
      }
      const token = this.forced(1)[0] ?? this.draw(this.logits);
      const report = this.#report(token, alpha, masked, position);
      sampler.accept(token);
      this.tokens.push(token);
      for (const voice of this.voices) voice.unseen = [token];
      return { row: this, token, report, ...output.accept(token) };
    } catch (error) {
      return { row: this, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** The next tokens that must come, up to so many; none where they are drawn. */
  forced(count: number): readonly number[] {
    const at = this.tokens.length;
    return this.request.forced?.slice(at, at + count) ?? [];
  }

  /** What the sampler would take from some logits [>= V] at the current position. */
  draw(logits: Float32Array): number {
    this.#scratch.set(logits.subarray(0, this.#scratch.length));
    return this.request.sampler.pick(this.#scratch);
  }

  /** The weighted mean of the pairs' rows, null without pairs. A mean, so that its log-probabilities mean something. */
  #mix(rows: readonly Float32Array[], role: "expert" | "antiexpert"): Float32Array | null {
    const [only] = this.#pairs;
    if (!this.#mixed) return only ? rows[only[role]]! : null;
    const out = this.#mixed[role];
    mixLogits(
      out,
      this.#pairs.map((pair) => rows[pair[role]]!),
      this.#pairs.map(({ weight }) => weight),
    );
    return out;
  }

  /** Fills `logits`; returns the strength that schedule and guards left. */
  #steer({ base, expert, antiexpert }: Rows): number {
    const { alpha: most, schedule } = this.request;
    const alpha = schedule ? alphaAt(schedule, this.tokens.length) : most;
    if (!expert || !antiexpert || alpha === 0) {
      this.logits.set(base);
      return 0;
    }
    // The sum of the weighted shifts is their mean, as often as the weights add up to.
    const strength = alpha * this.#weight;
    if (this.#guard) {
      return this.#guard.steer(this.logits, base, expert, antiexpert, strength) / this.#weight;
    }
    combineLogits(this.logits, base, expert, antiexpert, strength);
    return alpha;
  }

  /** The probability that `logits` give to tokens which may not come; null if all may. */
  #maskedMass(): number | null {
    const { constraint } = this.request.sampler;
    if (!constraint) return null;
    this.#scratch.set(this.logits);
    constraint.mask(this.#scratch);
    this.#weights ??= new Float32Array(this.logits.length);
    return maskedMass(this.logits, this.#scratch, this.#weights);
  }

  /** Before the sampler accepts the token: what the base would have taken is asked of the same position. */
  #report(token: number, alpha: number, masked: number | null, rows: Rows): Report | null {
    const isBases = alpha === 0 && !this.request.forced;
    const report =
      this.#reporter?.report({
        ...rows,
        steered: this.logits,
        alpha,
        token,
        baseToken: this.#reporter.traces && !isBases ? this.draw(rows.base) : token,
      }) ?? null;
    return masked === null ? report : { ...report, masked: round(masked) };
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
