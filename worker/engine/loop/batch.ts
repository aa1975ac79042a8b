/**
 * The decode loop. All running sequences take each step together; each has its own models, prompts, alpha, sampling
 * and limits. The folder loop/ works on token ids and logits, and knows no queue, thread or chat template.
 *
 * The batch here is the set of sequences that run now (continuous batching), not a batch of requests (worker/batches/).
 *
 * One token of one sequence, in order:
 *
 *     prefill         prefill.ts                 prompt tokens into the models' KV caches, in chunks
 *     decode          decode.ts                  runs of each model, for all sequences that use it
 *                     verify.ts, speculate.ts    several tokens of each sequence in one run
 *     gate            decode/gate.ts             where it is closed, only the base runs and there is no shift
 *     average         decode/weighted-sum.ts     several experts (or antiexperts) as one
 *     combine         decode/combine.ts          logits = base + alpha * (expert - antiexpert)
 *     guards          decode/guards.ts           limit the shift
 *     constraint      grammar/constraint.ts      -Infinity for tokens that the response format forbids
 *     sampling        decode/sampler.ts          penalties, bias, temperature, decode/truncate.ts, draw
 *     analysis        decode/token-analysis.ts   log-probabilities and trace of the token, if the request asks for them
 *     output          decode/output.ts           text (detokenizer.ts), end tokens, stop-strings.ts, token limit
 *
 * sequence.ts takes one token from average to output. ../scheduler.ts decides which sequences run.
 */
import { RemoteDecoder } from "../remote/remote-decoder.ts";
import type { PrefixCache } from "../decoder/prefix-cache.ts";
import { decodeAll, decodeGated, nextInputs } from "./decode.ts";
import { isPrefilled, Prefill } from "./prefill.ts";
import type { ForcedDrafter } from "./remote-policy.ts";
import { RemoteRuns } from "./remote-runs.ts";
import { restart } from "./restart.ts";
import { RunCosts } from "./run-costs.ts";
import {
  Sequence,
  type GenerateRequest,
  type ModelState,
  type Step,
  type TokenStep,
} from "./sequence.ts";
import { Speculator } from "./speculate.ts";
import { PromptRuns } from "./prompt-runs.ts";
import { StepBudget, type OtherSequences } from "./step-budget.ts";
import { verify } from "./verify.ts";

export interface BatchOptions {
  /** Draft tokens where that is faster. Changes the speed, never the tokens. */
  readonly speculate: boolean;
  /** The only drafter for remote bases; absent to choose by what is measured. */
  readonly drafter?: ForcedDrafter;
  /** Keeps the KV rows of earlier prompts; absent if prefixes are not cached. */
  readonly prefixCache?: PrefixCache;
}

export class Batch {
  /** Whether tokens can be drafted for each sequence. */
  readonly #sequences = new Map<Sequence, boolean>();
  readonly #speculate: boolean;
  readonly #costs = new RunCosts();
  readonly #speculator = new Speculator(this.#costs);
  readonly #prefill: Prefill;
  /** Sequences that took part in a failed run: each of them now runs by itself. */
  readonly #alone = new Set<Sequence>();
  readonly #remote: RemoteRuns;
  readonly #budget = new StepBudget();
  readonly #prompts: PromptRuns;
  #lastScored: Sequence | undefined;

  constructor({ speculate, drafter, prefixCache }: BatchOptions = { speculate: true }) {
    this.#speculate = speculate;
    this.#prefill = new Prefill(prefixCache ?? null);
    this.#prompts = new PromptRuns(this.#prefill, this.#budget, {
      // A gated one needs the base's logits first, and given tokens are scored.
      canStart: (one) => !one.isGated && !one.isForced && !this.#remote.has(one),
      canShare: (one) => this.#canShare(one),
      separate: (group, error) => this.#separate(group, error),
    });
    this.#remote = new RemoteRuns(speculate ? (drafter ?? null) : "none");
  }

  get size(): number {
    return this.#sequences.size;
  }

  /** Adds a sequence, which runs from the next step on. Returns null if its output is finished: by resumed tokens, or empty. */
  add(request: GenerateRequest): Sequence | null {
    const { resume, scoredPrompt, forcedTokens, output, sampler } = request;
    const promptCount = scoredPrompt?.tokens.length ?? 0;
    for (const token of resume.slice(promptCount)) {
      sampler.accept(token);
      if (output.push(token).finish) return null;
    }
    if (output.finish && resume.length >= promptCount) return null;
    const sequence = new Sequence(request);
    const { base } = request.models;
    if (base instanceof RemoteDecoder) this.#remote.add(sequence, base.base);
    const isGiven = forcedTokens !== undefined || scoredPrompt !== undefined;
    const canDraft =
      this.#speculate &&
      !isGiven &&
      !this.#remote.has(sequence) &&
      !sequence.isGated &&
      Speculator.isSupported(sequence);
    this.#sequences.set(sequence, canDraft);
    return sequence;
  }

  /** Removes a sequence, finished or not, and frees its KV caches. */
  remove(sequence: Sequence): void {
    if (!this.#sequences.delete(sequence)) return;
    this.#alone.delete(sequence);
    this.#remote.remove(sequence);
    sequence.close();
  }

  /**
   * Waits until a step may have something to do: while all sequences wait for a remote base, until a reply arrives or `wake`
   * is called. Returns whether it has waited.
   */
  async ready(): Promise<boolean> {
    const sequences = [...this.#sequences.keys()];
    const isWaiting = (sequence: Sequence) =>
      isPrefilled(sequence) && this.#remote.isWaiting(sequence);
    if (!sequences.every(isWaiting)) return false;
    await this.#remote.arrival();
    return true;
  }

  /** Ends the wait of `ready`: a sequence was added, or has to be removed. */
  wake(): void {
    this.#remote.wake();
  }

  /** Whether tokens can be drafted for a sequence. */
  canDraft(sequence: Sequence): boolean {
    return this.#sequences.get(sequence) ?? false;
  }

  /**
   * Prefills up to one chunk. Then gives every prefilled sequence its next token, or several where tokens are drafted,
   * and one of those with given tokens its next ones. If prompts got their first tokens, the others' next ones are left to the next
   * step, because the first ones are reported at its end. Removes the sequences that finish or fail.
   *
   * If a model's run fails, the sequence whose run it was ends. After a failed run of several sequences each of them goes on by
   * itself, so that only the one that causes the error ends.
   */
  async step(): Promise<Step[]> {
    const promptsMs = performance.now();
    this.#budget.startStep(this.#stateOfOthers());
    const steps = await this.#prompts.step([...this.#sequences.keys()]);
    const spentMs = performance.now() - promptsMs;
    this.#removeEnded(steps);
    const started = new Set(steps.map(({ sequence }) => sequence));
    const prefilled = [...this.#sequences.keys()].filter(
      (sequence) => isPrefilled(sequence) && !started.has(sequence),
    );
    // Nothing bounds the time of prompts beside remote bases and given tokens.
    const canWait = prefilled.every((one) => !this.#remote.has(one) && !this.#isScored(one));
    if (started.size > 0 && canWait) return steps;
    const hasGenerating = this.#stateOfOthers() !== "none";
    const startedMs = performance.now();
    const local = prefilled.filter((sequence) => !this.#remote.has(sequence));
    const scored = this.#nextScored(local);
    const generated = local.filter((sequence) => !this.#isScored(sequence));
    const drafted = await this.#draft(generated, prefilled);
    const decoded = drafted ?? (await this.#decode(generated, prefilled));
    steps.push(...decoded);
    if (hasGenerating) {
      const tokens = decoded.filter((step) => !("error" in step)).length;
      const waiting = [...this.#sequences.keys()].filter((one) => !isPrefilled(one)).length;
      this.#budget.recordDecode(performance.now() - startedMs, { tokens, waiting });
    }
    if (scored) {
      const { vocabSize } = scored.request.models;
      const count = this.#budget.scoreTokens(!hasGenerating, vocabSize, spentMs);
      steps.push(...(await orError(scored, () => this.#score(scored, count))));
    }
    this.#removeEnded(steps);
    return steps;
  }

  #removeEnded(steps: readonly Step[]): void {
    for (const step of steps) {
      const { sequence } = step;
      if (!this.#sequences.has(sequence)) continue;
      if (!("error" in step) && !step.finish) continue;
      if (!("error" in step)) this.#prefill.storeAll(sequence);
      this.remove(sequence);
    }
  }

  /** The sequences that are scored take turns. */
  #nextScored(prefilled: readonly Sequence[]): Sequence | undefined {
    const scored = prefilled.filter((sequence) => this.#isScored(sequence));
    const last = scored.indexOf(this.#lastScored!);
    return (this.#lastScored = scored[(last + 1) % scored.length]);
  }

  /** Whether the next tokens are given, and are scored in chunks. With a remote base they are part of its calls. */
  #isScored(sequence: Sequence): boolean {
    return sequence.isForced && !this.#remote.has(sequence);
  }

  /** The sequences that wait for their next token, over a remote base too. */
  #stateOfOthers(): OtherSequences {
    const isGenerating = (sequence: Sequence) => isPrefilled(sequence) && !this.#isScored(sequence);
    const generating = [...this.#sequences.keys()].filter(isGenerating);
    if (generating.length === 0) return "none";
    return generating.every((sequence) => this.#remote.isWaiting(sequence))
      ? "waiting"
      : "generating";
  }

  async #score(sequence: Sequence, count: number): Promise<Step[]> {
    const startedMs = performance.now();
    const tokens = sequence.nextForcedTokens(count);
    const [steps] = await verify([{ sequence, drafts: tokens.slice(0, -1), known: null }]);
    this.#budget.recordScore(performance.now() - startedMs, tokens.length);
    return steps!;
  }

  /** Whether several tokens of a sequence can run with those of others. */
  #canShare(sequence: Sequence): boolean {
    return (
      !this.#alone.has(sequence) &&
      sequence.modelStates.every(({ decoder }) => decoder.scoreAll !== null)
    );
  }

  /**
   * Several tokens of each sequence that generates. Null if one of each is faster, or if they do not all run together: apart, each
   * run would read the weights again.
   */
  async #draft(
    sequences: readonly Sequence[],
    prefilled: readonly Sequence[],
  ): Promise<Step[] | null> {
    const [first, ...others] = sequences;
    const hasRemote = prefilled.some((sequence) => this.#remote.has(sequence));
    if (!first || hasRemote || !sequences.every((sequence) => this.canDraft(sequence))) return null;
    const canShare = sequences.every((sequence) => this.#canShare(sequence));
    if (others.length > 0 && !canShare) return null;
    try {
      return await this.#speculator.step(sequences);
    } catch (error) {
      return this.#separate(sequences, asError(error));
    }
  }

  /** One token of each local sequence, and what can be done of the remote ones. */
  async #decode(sequences: readonly Sequence[], prefilled: readonly Sequence[]): Promise<Step[]> {
    const remote = prefilled.filter((sequence) => this.#remote.has(sequence));
    const all = [...sequences, ...remote];
    const together = all.filter((sequence) => !this.#alone.has(sequence));
    const apart = all.filter((sequence) => this.#alone.has(sequence));
    const steps: Step[] = [];
    for (const group of [together, ...apart.map((sequence) => [sequence])]) {
      if (group.length > 0) steps.push(...(await this.#decodeGroup(group)));
    }
    return steps;
  }

  /** The next tokens of sequences that share their runs. */
  async #decodeGroup(group: readonly Sequence[]): Promise<Step[]> {
    const remote = group.filter((sequence) => this.#remote.has(sequence));
    const sequences = group.filter((sequence) => !this.#remote.has(sequence));
    const first = sequences.flatMap(({ modelStates, isGated, baseLogits }) =>
      isGated ? modelStates.slice(0, baseLogits ? 0 : 1) : modelStates,
    );
    let logits: Map<ModelState, Float32Array>;
    let waiting: ReadonlySet<Sequence>;
    try {
      const inputs = [...nextInputs(first), ...this.#remote.pairInputs(remote)];
      logits = await decodeAll(inputs, this.#costs);
      waiting = await decodeGated(sequences, logits, this.#costs);
    } catch (error) {
      return this.#separate(group, asError(error));
    }
    const ready = sequences.filter((sequence) => !waiting.has(sequence));
    const steps = ready.map((sequence) => {
      for (const model of sequence.modelStates) if (logits.has(model)) sequence.countRun(model);
      return sequence.chooseToken(sequence.modelStates.map((model) => logits.get(model) ?? null));
    });
    const observed = steps.filter((step) => !("error" in step) && this.canDraft(step.sequence));
    this.#speculator.observe(observed as TokenStep[], logits);
    return [...steps, ...this.#remote.advance(remote, logits)];
  }

  /** After a failed run: ends the only sequence of it, or lets each of several start again by itself. */
  #separate(group: readonly Sequence[], error: Error): Step[] {
    const [only, ...others] = group;
    if (others.length === 0) return [{ sequence: only!, error }];
    for (const sequence of group) {
      this.#alone.add(sequence);
      restart(sequence);
      this.#remote.restart(sequence);
    }
    return [];
  }
}

/** The steps of a run of one sequence; if it fails, the error as the sequence's step. */
async function orError<T extends Step[] | null>(
  sequence: Sequence,
  run: () => Promise<T>,
): Promise<Step[] | T> {
  try {
    return await run();
  } catch (error) {
    return [{ sequence, error: asError(error) }];
  }
}

const asError = (error: unknown) => (error instanceof Error ? error : new Error(String(error)));
