/**
 * Speculative decoding. The expert (or prompt lookup) drafts the next tokens of all sequences that generate, and the other models
 * verify them in one run each. Every position still samples from its own steered distribution with its own noise, so the
 * output is the same as without drafts. If a draft equals the sampled token, it is accepted, and the logits of the next
 * position are already known.
 *
 * How many tokens are drafted follows from the measured times of runs, and from how many drafts of each sequence were accepted. A run
 * reads all weights. Where that takes most of its time, more tokens cost little, and several sequences draft together; where
 * arithmetic does (many sequences), each gets one token at a time.
 */
import { DRAFT_TOKENS_MAX, draftWidth, RunningMean, type DraftChance } from "../decode/draft.ts";
import { hostOf, type Decoder } from "../decoder/decoder.ts";
import { draftWithModels, sampleDraft } from "./draft-models.ts";
import type { RunCosts } from "./run-costs.ts";
import type { ModelState, Sequence, Step, TokenStep } from "./sequence.ts";
import { verify, type DraftedSequence } from "./verify.ts";

/** Local drafters: a local base has no stream to follow. */
type LocalSource = "expert" | "lookup";

/** Drafts must promise so many times the tokens per millisecond, because the times are estimates. */
const GAIN_MIN = 1.05;
/** As so many observations counts what is expected of a sequence's drafts. */
const PRIOR = 10;
const EXPECTED = { expert: 0.7, lookup: 0.5 };

/** How a sequence takes part in a step. */
interface Proposal extends DraftChance {
  readonly sequence: Sequence;
  /** Null for no drafts. */
  readonly source: LocalSource | null;
  /** Tokens that prompt lookup has found. */
  readonly found: readonly number[];
}

interface Plan {
  readonly proposals: readonly Proposal[];
  /** Tokens of each sequence. */
  readonly width: number;
  /** Tokens per millisecond. */
  readonly speed: number;
}

export class Speculator {
  readonly #costs: RunCosts;
  readonly #acceptances = new WeakMap<Sequence, Readonly<Record<LocalSource, RunningMean>>>();
  /** How often the drafts of an expert are accepted, in all sequences. */
  readonly #expected = new WeakMap<Decoder, RunningMean>();
  /** Whether drafts could be faster than one token at a time if all of them were right. */
  #canPay = false;
  #lastObserved: Sequence | undefined;

  constructor(costs: RunCosts) {
    this.#costs = costs;
  }

  /** Whether tokens can be drafted for a sequence: the KV cache of every model can be rewound. */
  static isSupported(sequence: Sequence): boolean {
    return sequence.modelStates.every(({ decoder }) => decoder.rewind !== null);
  }

  /** Drafts and verifies. Returns null, without running a model, if one token of each sequence at a time is faster. */
  async step(sequences: readonly Sequence[]): Promise<Step[] | null> {
    const plan = this.#plan(sequences);
    if (!plan) return null;
    const drafted = await this.#draft(plan);
    const steps = await verify(drafted, this.#costs);
    return steps.flatMap((of, i) => this.#count(plan.proposals[i]!, drafted[i]!, of));
  }

  /**
   * Updates the acceptance rates after tokens that were decoded without drafts: those of one sequence, because choosing its draft
   * takes as long as choosing its token.
   */
  observe(steps: readonly TokenStep[], logits: ReadonlyMap<ModelState, Float32Array>): void {
    if (!this.#canPay || steps.length === 0) return;
    const last = steps.findIndex(({ sequence }) => sequence === this.#lastObserved);
    const { sequence, token } = steps[(last + 1) % steps.length]!;
    this.#lastObserved = sequence;
    const found = sequence.lookup.draftOfLast;
    if (found !== null) this.#observe(sequence, "lookup", found === token);
    const draftLogits = sequence.draftModel && logits.get(sequence.draftModel);
    if (!draftLogits) return;
    const { sampler } = sequence.request;
    sampler.rewind(1);
    const startedMs = performance.now();
    const draft = sampleDraft(sequence, draftLogits);
    sampler.accept(token);
    // Also while experts do not draft: a time that was too long at first would keep them from it.
    this.#costs.recordChoosing(performance.now() - startedMs);
    this.#observe(sequence, "expert", draft === token);
  }

  /** The fastest of three ways: no drafts (null), those of prompt lookup only, which need no runs of experts, and those of both. */
  #plan(sequences: readonly Sequence[]): Plan | null {
    const plainMs = this.#runMs(sequences.flatMap(({ modelStates }) => modelStates));
    const certain = sequences.map((sequence) => ({
      ...this.#proposal(sequence, "lookup", []),
      acceptance: 1,
      tokensMax: sequence.request.output.tokensLeft,
    }));
    this.#canPay = this.#best(certain, plainMs) !== null;
    if (!this.#canPay) return null;
    const lookup = sequences.map((sequence) => {
      // No drafts beyond the token limit: the cache budget and the context have no room for them.
      const countMax = Math.min(DRAFT_TOKENS_MAX, sequence.request.output.tokensLeft) - 1;
      const found = sequence.lookup.find(countMax);
      return this.#proposal(sequence, found.length > 0 ? "lookup" : null, found);
    });
    const both = lookup.map((proposal) => {
      const { sequence, found, acceptance } = proposal;
      const own = sequence.draftModel && this.#proposal(sequence, "expert", found);
      return own && own.acceptance > acceptance ? own : proposal;
    });
    const plans = [lookup, both].flatMap((proposals) => this.#best(proposals, plainMs) ?? []);
    return plans.toSorted((a, b) => b.speed - a.speed)[0] ?? null;
  }

  /** The best width for these proposals; null if none is faster than no drafts, or if times are not known yet. */
  #best(proposals: readonly Proposal[], plainMs: number | null): Plan | null {
    if (plainMs === null) return null;
    const costMs = (width: number) =>
      width === 1 ? plainMs : (this.#draftedMs(proposals, width) ?? Infinity);
    const { width, speed } = draftWidth(proposals, costMs);
    const plainSpeed = proposals.length / plainMs;
    return width > 1 && speed >= GAIN_MIN * plainSpeed ? { proposals, width, speed } : null;
  }

  /** Time of drafting and verifying. A model that drafts does not verify. */
  #draftedMs(proposals: readonly Proposal[], width: number): number | null {
    const drafting = proposals.filter(({ source }) => source === "expert");
    const draftModels = new Set(drafting.map(({ sequence }) => sequence.draftModel!));
    const verifying = proposals
      .flatMap(({ sequence }) => sequence.modelStates)
      .filter((model) => !draftModels.has(model));
    const draftMs = this.#runMs([...draftModels]);
    const verifyMs = this.#runMs(verifying, width);
    if (draftMs === null || verifyMs === null) return null;
    const choosingMs = (width - 1) * drafting.length * this.#costs.choosingMs;
    return width * draftMs + choosingMs + verifyMs;
  }

  /** Time of the runs that give each of these models so many tokens; null if it is not known. */
  #runMs(models: readonly ModelState[], tokens = 1): number | null {
    let sum = 0;
    for (const [host, group] of Map.groupBy(models, ({ decoder }) => hostOf(decoder))) {
      const ms = this.#costs.runMs(host, tokens * group.length);
      if (ms === null) return null;
      sum += ms;
    }
    return sum;
  }

  async #draft({ proposals, width }: Plan): Promise<DraftedSequence[]> {
    const drafting = proposals.filter(({ source }) => source === "expert");
    const drafts = await draftWithModels(
      drafting.map(({ sequence, tokensMax }) => ({ sequence, count: Math.min(width, tokensMax) })),
      this.#costs,
    );
    return proposals.map(({ sequence, source, found }) => {
      const known = drafts.get(sequence);
      if (known) return { sequence, ...known };
      return { sequence, drafts: source ? found.slice(0, width - 1) : [], known: null };
    });
  }

  #proposal(sequence: Sequence, source: LocalSource | null, found: readonly number[]): Proposal {
    const { tokensLeft } = sequence.request.output;
    return {
      sequence,
      source,
      found,
      acceptance: source ? this.#acceptance(sequence)[source].value : 0,
      tokensMax: source === "expert" ? tokensLeft : 1 + found.length,
    };
  }

  /** The steps of a sequence, with its drafts counted. */
  #count(
    { sequence, source, found }: Proposal,
    { drafts }: DraftedSequence,
    steps: readonly Step[],
  ): Step[] {
    const [first] = steps;
    if (source !== "lookup" && found.length > 0 && first && !("error" in first)) {
      this.#observe(sequence, "lookup", first.token === found[0]);
    }
    return steps.map((step, i) => {
      if (!source || "error" in step || i >= drafts.length) return step;
      const isAccepted = step.token === drafts[i];
      sequence.drafts[source].drafted++;
      if (isAccepted) sequence.drafts[source].accepted++;
      this.#observe(sequence, source, isAccepted);
      return isAccepted ? asDrafted(step) : step;
    });
  }

  #observe(sequence: Sequence, source: LocalSource, isAccepted: boolean): void {
    const value = isAccepted ? 1 : 0;
    this.#acceptance(sequence)[source].observe(value);
    if (source === "expert") this.#expectedOf(sequence.draftModel!).observe(value);
  }

  #acceptance(sequence: Sequence): Readonly<Record<LocalSource, RunningMean>> {
    const known = this.#acceptances.get(sequence);
    if (known) return known;
    const { draftModel } = sequence;
    const expected = draftModel ? this.#expectedOf(draftModel).value : EXPECTED.expert;
    const acceptance = {
      expert: new RunningMean(expected, PRIOR),
      lookup: new RunningMean(EXPECTED.lookup, PRIOR),
    };
    this.#acceptances.set(sequence, acceptance);
    return acceptance;
  }

  #expectedOf({ decoder }: ModelState): RunningMean {
    const mean = this.#expected.get(decoder) ?? new RunningMean(EXPECTED.expert, PRIOR);
    this.#expected.set(decoder, mean);
    return mean;
  }
}

/** A trace says which tokens were drafted. */
function asDrafted(step: TokenStep): TokenStep {
  const { analysis } = step;
  return analysis?.trace ? { ...step, analysis: { ...analysis, isDrafted: true } } : step;
}
