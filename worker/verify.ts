/**
 * Several positions of a row at once: tokens that may come, or must, are run through each model together, which costs
 * little more than one. Every position still takes its token from its own logits.
 */
import { EXTRA_TOKEN_COST } from "./decode/draft.ts";
import type { Row, Step, Voice } from "./row.ts";

/** Logits of a voice that has seen the drafts already: after its last token and after each of them. */
export interface Seen {
  readonly voice: Voice;
  readonly logits: readonly Float32Array[];
}

/** @returns the row's next tokens: as many as the drafts foretold, and one more */
export async function verify(
  row: Row,
  drafts: readonly number[],
  seen: Seen | null = null,
): Promise<Step[]> {
  const logits: (readonly Float32Array[])[] = [];
  for (const voice of row.voices) {
    logits.push(voice === seen?.voice ? seen.logits : await score(voice, drafts));
  }
  const positions = drafts.length + 1;
  const steps: Step[] = [];
  for (let i = 0; i < positions; i++) {
    const step = row.choose(logits.map((rows) => rows[i]!));
    steps.push(step);
    if ("error" in step || step.finish || step.token !== drafts[i]) break;
  }
  const unused = positions - steps.length;
  // Where a cache cannot forget, only tokens that must come are run, and the row has failed.
  if (unused > 0)
    for (const { decoder, sequence } of row.voices) decoder.rewind?.(sequence, unused);
  return steps;
}

/** Logits after the last token that a voice was given (prompts may end in different ones) and after each draft. */
async function score(voice: Voice, drafts: readonly number[]): Promise<Float32Array[]> {
  const startedMs = performance.now();
  const logits = await voice.decoder.score(voice.sequence, [voice.unseen[0]!, ...drafts]);
  const extra = EXTRA_TOKEN_COST * drafts.length;
  voice.runMs.observe((performance.now() - startedMs) / (1 + extra));
  return logits;
}
