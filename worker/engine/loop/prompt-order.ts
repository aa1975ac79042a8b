/**
 * Which prompt is prefilled next. In general the oldest one. While that is longer than a chunk, a much shorter one runs before every
 * second chunk of it, so that a short prompt does not wait for all of a long one. It has at most half of the oldest one's tokens left,
 * so it ends earlier and the oldest one no later than two prompts that run one after the other would.
 */
import { PREFILL_CHUNK_TOKENS } from "./step-budget.ts";

interface Prompt {
  /** Tokens that have to be run. */
  readonly tokens: number;
}

export class PromptOrder {
  #isOldestNext = false;

  /** @param prompts the oldest first @returns the same ones in the order of this step */
  sort<T extends Prompt>(prompts: readonly T[]): readonly T[] {
    const [oldest] = prompts;
    if (this.#isOldestNext || !oldest || oldest.tokens <= PREFILL_CHUNK_TOKENS) return prompts;
    const shortest = prompts.reduce((one, other) => (other.tokens < one.tokens ? other : one));
    if (2 * shortest.tokens > oldest.tokens) return prompts;
    return [shortest, ...prompts.filter((prompt) => prompt !== shortest)];
  }

  /** @param isOldest whether the first prompt that a step has run is the oldest one */
  recordRun(isOldest: boolean): void {
    this.#isOldestNext = !isOldest;
  }
}
