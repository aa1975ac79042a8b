/** The runs of prompts in a step: up to one chunk of them, in their order. */
import { isPrefilled, type Prefill } from "./prefill.ts";
import { promptGroup, tokensToRun } from "./prompt-group.ts";
import { PromptOrder } from "./prompt-order.ts";
import type { Sequence, Step } from "./sequence.ts";
import type { PromptRest, StepBudget } from "./step-budget.ts";

interface Options {
  /** Whether the run with a sequence's last prompt token can give its first token. */
  readonly canStart: (sequence: Sequence) => boolean;
  /** Whether a sequence's tokens can run with those of others. */
  readonly canShare: (sequence: Sequence) => boolean;
  /** Ends the only sequence of a failed run, or lets those that shared it start again. */
  readonly separate: (group: readonly Sequence[], error: Error) => Step[];
}

interface Prompt extends PromptRest {
  readonly sequence: Sequence;
}

export class PromptRuns {
  readonly #prefill: Prefill;
  readonly #budget: StepBudget;
  readonly #options: Options;
  readonly #order = new PromptOrder();

  constructor(prefill: Prefill, budget: StepBudget, options: Options) {
    this.#prefill = prefill;
    this.#budget = budget;
    this.#options = options;
  }

  /** @returns first tokens, and the errors of sequences whose prefill failed */
  async step(sequences: readonly Sequence[]): Promise<Step[]> {
    const behind = sequences.flatMap((sequence) => {
      const rest = this.#prefill.rest(sequence);
      return rest ? [{ sequence, ...rest }] : [];
    });
    const steps: Step[] = [];
    // A gated pair that catches up is part of generating tokens.
    for (const { sequence, tokens } of behind) {
      if (!isPrefilled(sequence)) continue;
      this.#prefill.restore(sequence);
      steps.push(...(await this.#run([sequence], tokens)));
    }
    const prompts = behind.filter(({ sequence }) => !isPrefilled(sequence));
    let isFirst = true;
    for (const prompt of this.#order.sort(prompts)) {
      const count = this.#budget.prefillTokens(prompt);
      if (count === 0) continue;
      if (isFirst) this.#order.recordRun(prompt === prompts[0]);
      isFirst = false;
      const startedMs = performance.now();
      this.#prefill.restore(prompt.sequence);
      const group = this.#group(prompt, prompts, count);
      const tokens = group ? group.reduce((sum, one) => sum + tokensToRun(one), 0) : count;
      steps.push(...(await this.#run(group ?? [prompt.sequence], group ? null : count)));
      this.#budget.recordPrefill(performance.now() - startedMs, tokens);
      // First tokens need not wait for another prompt.
      if (group) break;
    }
    return steps;
  }

  /** The sequences that get their first token with this one; null if it has more than `count` tokens left or cannot start. */
  #group(
    { sequence }: Prompt,
    prompts: readonly Prompt[],
    count: number,
  ): readonly Sequence[] | null {
    const { canStart, canShare } = this.#options;
    if (tokensToRun(sequence) - 1 > count || !canStart(sequence)) return null;
    if (!canShare(sequence)) return [sequence];
    const others = prompts
      .map((prompt) => prompt.sequence)
      .filter((other) => other !== sequence && canStart(other) && canShare(other));
    return promptGroup(sequence, others, (other) => this.#prefill.restore(other));
  }

  /** @param count tokens of a chunk; null for all, and the first token */
  async #run(group: readonly Sequence[], count: number | null): Promise<Step[]> {
    try {
      if (count === null) return await this.#prefill.start(group);
      for (const sequence of group) await this.#prefill.run(sequence, count);
      return [];
    } catch (error) {
      return this.#options.separate(
        group,
        error instanceof Error ? error : new Error(String(error)),
      );
    }
  }
}
