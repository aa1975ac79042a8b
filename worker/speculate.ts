/**
 * Exact speculation for a row that runs alone: the expert (or the text's own repetitions) drafts tokens, and the other
 * models verify them in one run each. Every position still draws from its own steered distribution with its own
 * noise, so what comes out is what would have come out without drafts; a draft only decides whether the logits of
 * the next position are there already.
 */
import { draftLength, lookUp, RunningMean, type Drafter } from "./decode/draft.ts";
import type { Row, Step, Voice } from "./row.ts";
import { verify, type Seen } from "./verify.ts";

/** What one row has learned about its drafters. */
export class Speculation {
  readonly #acceptance = { expert: new RunningMean(0.7, 10), lookup: new RunningMean(0.5, 10) };

  /** Whether every model of the row can take tokens back. */
  static isPossible(row: Row): boolean {
    return row.voices.every(({ decoder }) => decoder.rewind !== null);
  }

  /** Drafts and verifies. Returns null, having run nothing, where one token at a time is faster. */
  async step(row: Row): Promise<Step[] | null> {
    const { drafter: expert, voices } = row;
    const allMs = voices.reduce((sum, { runMs }) => sum + runMs.value, 0);
    // Beyond the last token that may come there is no room, neither in the cache budget nor among the positions.
    const left = row.request.output.tokensLeft;
    const lookup = draftLength({
      acceptance: this.#acceptance.lookup.value,
      draftMs: 0,
      verifyMs: allMs,
    });
    const history = [...row.request.prompts.base, ...row.tokens];
    const found = lookUp(history, Math.min(lookup, left) - 1);
    if (found.length > 0) return this.#verify(row, "lookup", found);
    if (!expert) return null;
    const acceptance = this.#acceptance.expert.value;
    const draftMs = expert.runMs.value;
    const length = draftLength({ acceptance, draftMs, verifyMs: allMs - draftMs });
    const count = Math.min(length, left);
    if (count === 1) return null;
    const { drafts, logits } = await draftByExpert(row, expert, count);
    return this.#verify(row, "expert", drafts, { voice: expert, logits });
  }

  /** Learns from a position that was decoded without drafts. */
  learn(row: Row, token: number, expertLogits: Float32Array | null): void {
    const { sampler, prompts } = row.request;
    const before = [...prompts.base, ...row.tokens.slice(0, -1)];
    const [found] = lookUp(before, 1);
    if (found !== undefined) this.#acceptance.lookup.observe(found === token ? 1 : 0);
    if (!expertLogits) return;
    sampler.rewind(1);
    this.#acceptance.expert.observe(drawDraft(row, expertLogits) === token ? 1 : 0);
    sampler.accept(token);
  }

  async #verify(
    row: Row,
    drafter: Drafter,
    drafts: readonly number[],
    seen: Seen | null = null,
  ): Promise<Step[]> {
    const steps = await verify(row, drafts, seen);
    for (const [i, step] of steps.entries()) {
      if (!("error" in step) && i < drafts.length)
        this.#count(row, drafter, step.token === drafts[i]);
    }
    return steps;
  }

  #count(row: Row, drafter: Drafter, right: boolean): void {
    row.drafts[drafter].drafted++;
    if (right) row.drafts[drafter].accepted++;
    this.#acceptance[drafter].observe(right ? 1 : 0);
  }
}

/** The expert runs `count` times, each draft drawn from its own logits with the noise of that position. */
async function draftByExpert(
  row: Row,
  expert: Voice,
  count: number,
): Promise<{ drafts: number[]; logits: Float32Array[] }> {
  const { sampler } = row.request;
  const drafts: number[] = [];
  const logits: Float32Array[] = [];
  for (let i = 0; i < count; i++) {
    const startedMs = performance.now();
    const turn = { sequence: expert.sequence, id: drafts.at(-1) ?? expert.unseen[0]! };
    const [next] = await expert.decoder.decode([turn]);
    expert.runMs.observe(performance.now() - startedMs);
    logits.push(next!);
    if (i === count - 1) break;
    const draft = drawDraft(row, next!);
    if (draft === null) break;
    sampler.accept(draft);
    drafts.push(draft);
  }
  sampler.rewind(drafts.length);
  return { drafts, logits };
}

/** What the expert alone would take, or null if it is at a loss: the row itself may never come to where it is. */
function drawDraft(row: Row, expertLogits: Float32Array): number | null {
  try {
    return row.draw(expertLogits);
  } catch {
    return null;
  }
}
