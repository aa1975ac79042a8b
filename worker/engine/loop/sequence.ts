/**
 * One running generation: the state of its models, and how their logits become its next token. A new stage between
 * logits and token goes into `chooseToken`.
 */
import {
  emptyDraftCounts,
  type DraftCounts,
  type RemoteCounts,
} from "../../engine-client/messages.ts";
import { maskedProbability } from "../decode/masked-probability.ts";
import { PromptLookup } from "../decode/prompt-lookup.ts";
import { unpadded } from "../decode/unpadded.ts";
import type { Output, OutputStep } from "../decode/output.ts";
import type { Sampler } from "../decode/sampler.ts";
import { alphaAt, type Knot } from "../../../shared/jobs/alpha-schedule.ts";
import {
  rankOf,
  roundDecimals,
  TokenAnalyzer,
  type AnalysisOptions,
  type ModelLogits,
  type TokenAnalysis,
} from "../decode/token-analysis.ts";
import type { BaseMessage } from "../remote/api.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { buildModelSet, type SteeredModels } from "./model-set.ts";
import { Shift, type ShiftOptions } from "./shift.ts";

/** Pending tokens of a model of a gated pair: from the first on it catches up, and beyond the second the sequence waits for it. */
const BEHIND = { usual: 32, most: 64 };

export interface GenerateRequest extends SteeredModels, ShiftOptions {
  /** Alpha by position; absent for `alpha` at every position. */
  readonly schedule?: readonly Knot[];
  readonly sampler: Sampler;
  readonly output: Output;
  /** Measurements to make for each token; absent for none. */
  readonly analysis?: AnalysisOptions;
  /** Tokens to score: they are taken in this order, and nothing is sampled. */
  readonly forcedTokens?: readonly number[];
  /** The end of the prompt, which `prompts` lack: its tokens are scored, and then the output begins. */
  readonly scoredPrompt?: ScoredPrompt;
  /** The conversation, for a remote base that takes no other prompt. */
  readonly chat?: readonly BaseMessage[];
  /** Largest bound of a token that a remote base cannot prove; absent for 0. */
  readonly baseErrorMax?: number;
  /** Whether a token beyond that bound is drawn from the base alone; otherwise it is an error. */
  readonly fallsBackToBase?: boolean;
  /** Tokens that an earlier attempt scored or generated: replayed, not generated again. */
  readonly resume: readonly number[];
  /** Owner of the prompt: cached prefixes are reused only for the same tenant. Absent: no prefix is stored or reused. */
  readonly tenant?: string;
}

export interface ScoredPrompt {
  /** The same tokens for all models. */
  readonly tokens: readonly number[];
  /** How many of the likeliest tokens to list at each position. */
  readonly logprobs: number;
}

/** One model's part of a sequence. */
export interface ModelState {
  readonly decoder: Decoder;
  /** The decoder's handle of the sequence's KV cache. */
  decoderSequence: unknown;
  readonly prompt: readonly number[];
  /** Tokens that are not in the KV cache yet, one or more: the run of the last one gives the logits of the next token. */
  pendingTokens: readonly number[];
}

/** A sequence's new token. */
export interface TokenStep extends OutputStep {
  readonly sequence: Sequence;
  readonly token: number;
  readonly analysis: TokenAnalysis | null;
}

/** A sequence's new token, or the error that ended the sequence. */
export type Step = TokenStep | { readonly sequence: Sequence; readonly error: Error };

/** The token of a position, and what it was chosen from. */
export interface Decision {
  readonly token: number;
  /** The alpha after schedule and guards are applied. */
  readonly alpha: number;
  /** Factor of the shift: alpha times the weights of the pairs. */
  readonly strength: number;
  readonly masked: number | null;
  readonly models: ModelLogits;
  /** Whether only the base was run. */
  readonly isBaseOnly: boolean;
}

export class Sequence {
  readonly request: GenerateRequest;
  /** The base first, every model once. */
  readonly modelStates: readonly ModelState[];
  /** The expert of the heaviest pair, whose drafts are the most likely to be right; null at alpha 0. */
  readonly draftModel: ModelState | null;
  /** The antiexpert of that pair. */
  readonly draftBase: ModelState | null;
  /** [V] the steered logits of the last step, before sampling. */
  readonly logits: Float32Array;
  /** Tokens so far after the prompts: those of the scored prompt, then the output, including those of an earlier attempt. */
  readonly tokens: number[];
  /** Drafts from the base's prompt and `tokens`. */
  readonly lookup: PromptLookup;
  /** Tokens of the base's prompt that came from the prefix cache. */
  cachedTokens = 0;
  /** Tokens of this attempt to which the shift was applied, before the guards. */
  shiftedTokens = 0;
  readonly drafts: DraftCounts = emptyDraftCounts();
  /** [>= V] logits of the base at the next position, while a gated pair has to catch up before it; null if they are not known. */
  baseLogits: Float32Array | null = null;
  /** Null with a local base. */
  remote: RemoteCounts | null = null;
  #baseRuns = 0;
  readonly #scratch: Float32Array;
  #expScratch: Float32Array | null = null;
  readonly #shift: Shift;
  readonly #analyzer: TokenAnalyzer | null;
  readonly #promptAnalyzer: TokenAnalyzer | null;

  /** Opens a KV cache in every model. @throws the decoder's error if one cannot be opened; the others are closed */
  constructor(request: GenerateRequest) {
    const { resume, analysis, scoredPrompt } = request;
    const { vocabSize } = request.models;
    const { models, pairs } = buildModelSet(request);
    const modelStates: ModelState[] = [];
    this.request = request;
    this.modelStates = modelStates;
    try {
      for (const { decoder, prompt } of models) {
        modelStates.push({
          decoder,
          decoderSequence: decoder.open(),
          prompt,
          pendingTokens: [...prompt, ...resume],
        });
      }
    } catch (error) {
      this.close();
      throw error;
    }
    const heaviest = pairs.toSorted((a, b) => b.weight - a.weight)[0];
    this.draftModel = heaviest ? modelStates[heaviest.expert]! : null;
    this.draftBase = heaviest ? modelStates[heaviest.antiexpert]! : null;
    this.logits = new Float32Array(vocabSize);
    this.tokens = [...resume];
    this.lookup = new PromptLookup(request.prompts.base, this.tokens);
    this.#scratch = new Float32Array(vocabSize);
    this.#shift = new Shift(pairs, request, vocabSize);
    this.#analyzer = analysis ? new TokenAnalyzer(analysis) : null;
    this.#promptAnalyzer = scoredPrompt
      ? new TokenAnalyzer({ logprobs: scoredPrompt.logprobs, trace: false })
      : null;
  }

  /** Runs of the base that this sequence took part in. Calls of a remote base. */
  get baseCalls(): number {
    return this.remote?.calls ?? this.#baseRuns;
  }

  /** Counts a run of one of the sequence's models. The base may also be run as a model of a pair, with another prompt. */
  countRun(model: ModelState): void {
    if (model === this.modelStates[0]) this.#baseRuns++;
  }

  /** Count of tokens in `tokens` that belong to the prompt, once they are all scored. */
  get scoredPromptCount(): number {
    return this.request.scoredPrompt?.tokens.length ?? 0;
  }

  get isScoringPrompt(): boolean {
    return this.tokens.length < this.scoredPromptCount;
  }

  /** Whether the next token is given, and not sampled. */
  get isForced(): boolean {
    return this.isScoringPrompt || this.request.forcedTokens !== undefined;
  }

  /** The alpha of the next position, before the guards. */
  get scheduledAlpha(): number {
    const { alpha, schedule } = this.request;
    const position = Math.max(0, this.tokens.length - this.scoredPromptCount);
    return schedule ? alphaAt(schedule, position) : alpha;
  }

  /** Whether the models of the pairs run only at positions where the shift is applied. Given tokens are scored by all models. */
  get isGated(): boolean {
    return this.#shift.isGated && !this.isForced;
  }

  /** How many tokens a model may have pending: usually, and at most while the sequence generates. */
  pendingMax(model: ModelState): { readonly usual: number; readonly most: number } {
    return this.isGated && model !== this.modelStates[0] ? BEHIND : { usual: 1, most: 1 };
  }

  /** Whether the shift is applied at the next position. @param base [>= V] logits of the base */
  needsPairs(base: Float32Array): boolean {
    return this.#shift.isApplied(unpadded(base, this.request.models.vocabSize));
  }

  /** The tokens whose KV rows are in a model's cache. */
  tokensInCache({ prompt, pendingTokens }: ModelState): number[] {
    return [...prompt, ...this.tokens].slice(0, -pendingTokens.length);
  }

  /**
   * Combines the logits of a position and takes its token: the next one of the scored prompt, the next forced one, or a sampled
   * one.
   * Returns an error as a step; other sequences of the batch continue.
   * @param logits [>= V] of each model, in the order of `modelStates`; null for models of pairs that the position does not need
   */
  chooseToken(logits: readonly (Float32Array | null)[]): Step {
    try {
      return this.take(this.decide(logits));
    } catch (error) {
      return { sequence: this, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** The token of a position, without adding it to the output. @param logits as for `chooseToken` @param out [V] the steered ones */
  decide(logits: readonly (Float32Array | null)[], out = this.logits): Decision {
    const { vocabSize } = this.request.models;
    const rows = logits.map((modelLogits) => modelLogits && unpadded(modelLogits, vocabSize));
    const isBaseOnly = rows.includes(null);
    const models = this.#shift.models(rows);
    let alpha = this.#shift.combine(out, models, this.scheduledAlpha);
    const { totalWeight } = this.#shift;
    if (this.isScoringPrompt) {
      const [token = 0] = this.nextForcedTokens(1);
      return { token, alpha, strength: alpha * totalWeight, masked: null, models, isBaseOnly };
    }
    let masked = this.#maskedProbability(out);
    if (masked === 1 && this.#shift.isGuarded) {
      // The guards left no token that the constraint allows: fall back to the base logits.
      out.set(models.base);
      alpha = 0;
      masked = this.#maskedProbability(out);
    }
    const token = this.nextForcedTokens(1)[0] ?? this.sample(out);
    return { token, alpha, strength: alpha * totalWeight, masked, models, isBaseOnly };
  }

  /** The token that the base alone gives at the position of a decision, as at alpha 0. */
  decideWithBase({ models, isBaseOnly }: Decision): Decision {
    this.logits.set(models.base);
    const masked = this.#maskedProbability(this.logits);
    return { token: this.sample(this.logits), alpha: 0, strength: 0, masked, models, isBaseOnly };
  }

  /** Adds the token of the last decision to the output. */
  take(decision: Decision): TokenStep {
    if (this.isScoringPrompt) return this.#takePromptToken(decision);
    const { token, alpha, masked, models, isBaseOnly } = decision;
    const { sampler, output } = this.request;
    const analysis = this.#analyze(token, alpha, masked, models);
    sampler.accept(token);
    if (models.expert) this.shiftedTokens++;
    this.#append(token, isBaseOnly);
    return { sequence: this, token, analysis, ...output.push(token) };
  }

  /** A token of the prompt is no output: the sampler and the output do not see it, nor does the constraint. */
  #takePromptToken({ token, alpha, models }: Decision): TokenStep {
    const position = { ...models, steered: this.logits, alpha, token, baseToken: token };
    const { logprobs } = this.#promptAnalyzer!.analyze(position);
    const prompt = { ...logprobs!, rank: rankOf(this.logits, token) };
    this.#append(token, false);
    const finish = this.isScoringPrompt ? null : this.request.output.finish;
    return { sequence: this, token, analysis: { prompt }, text: "", finish };
  }

  #append(token: number, isBaseOnly: boolean): void {
    this.baseLogits = null;
    this.tokens.push(token);
    for (const [i, model] of this.modelStates.entries()) {
      model.pendingTokens = isBaseOnly && i > 0 ? [...model.pendingTokens, token] : [token];
    }
  }

  /** Up to `count` of the next tokens that are given: those of the scored prompt, or forced ones; [] if tokens are sampled. */
  nextForcedTokens(count: number): readonly number[] {
    const { scoredPrompt, forcedTokens = [] } = this.request;
    const at = this.tokens.length;
    return (scoredPrompt?.tokens ?? forcedTokens).slice(at, at + count);
  }

  /** Samples a token from logits [>= V] at the current position. Changes neither the logits nor the sequence. */
  sample(logits: Float32Array): number {
    this.#scratch.set(logits.subarray(0, this.#scratch.length));
    return this.request.sampler.sample(this.#scratch);
  }

  /** The probability that logits [V] give to tokens which the constraint forbids; null without a constraint. */
  #maskedProbability(logits: Float32Array): number | null {
    const { constraint } = this.request.sampler;
    if (!constraint) return null;
    this.#scratch.set(logits);
    constraint.mask(this.#scratch);
    this.#expScratch ??= new Float32Array(logits.length);
    return maskedProbability(logits, this.#scratch, this.#expScratch);
  }

  /** Must be called before the sampler accepts the token, because the base's own token is sampled at the same position. */
  #analyze(
    token: number,
    alpha: number,
    masked: number | null,
    models: ModelLogits,
  ): TokenAnalysis | null {
    const isBaseToken = alpha === 0 && !this.request.forcedTokens;
    const analysis =
      this.#analyzer?.analyze({
        ...models,
        steered: this.logits,
        alpha,
        token,
        baseToken: this.#analyzer.needsBaseToken && !isBaseToken ? this.sample(models.base) : token,
      }) ?? null;
    return masked === null ? analysis : { ...analysis, masked: roundDecimals(masked) };
  }

  /** Frees the KV caches. */
  close(): void {
    for (const { decoder, decoderSequence } of this.modelStates) decoder.close(decoderSequence);
  }
}
