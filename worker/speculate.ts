/**
 * Exact speculation for a row that runs alone: the expert (or the text's own repetitions) drafts tokens, and the other
 * models verify them in one run each. Every position still draws from its own steered distribution with its own
 * noise, so what comes out is what would have come out without drafts; a draft only decides whether the logits of
 * the next position are there already.
 */
import { draftLength, lookUp, RunningMean } from "./decode/draft.ts";
import type { Row, Step, Voice } from "./row.ts";

type Drafter = "expert" | "lookup";

/** What one row has learned about its drafters. */
export class Speculation {
  /** Drafted tokens that were verified, and how many of them were right. */
  drafted = 0;
  accepted = 0;
  readonly #acceptance = { expert: new RunningMean(0.7), lookup: new RunningMean(0.5) };

  /** Whether every model of the row can take tokens back. */
  static isPossible(row: Row): boolean {
    return row.voices.every(({ decoder }) => decoder.rewind !== null);
  }

  /** Drafts and verifies. Returns null, having run nothing, where one token at a time is faster. */
  async step(row: Row): Promise<Step[] | null> {
    const { base, expert, antiexpert } = row;
    const othersMs = base.runMs.value + (antiexpert?.runMs.value ?? 0);
    const expertMs = expert?.runMs.value ?? 0;
    const lookup = draftLength({
      acceptance: this.#acceptance.lookup.value,
      draftMs: 0,
      verifyMs: othersMs + expertMs,
    });
    const found = lookUp([...row.request.prompts.base, ...row.tokens], lookup - 1);
    if (found.length > 0) {
      const ids = [base.unseen[0]!, ...found];
      return this.#verify(row, "lookup", ids, expert ? await score(expert, ids) : null);
    }
    if (!expert) return null;
    const acceptance = this.#acceptance.expert.value;
    const count = draftLength({ acceptance, draftMs: expertMs, verifyMs: othersMs });
    if (count === 1) return null;
    const { ids, logits } = await draftByExpert(row, expert, count);
    return this.#verify(row, "expert", ids, logits);
  }

  /** Learns from a position that was decoded without drafts. */
  learn(row: Row, token: number, expertLogits: Float32Array | undefined): void {
    const { sampler, prompts } = row.request;
    const before = [...prompts.base, ...row.tokens.slice(0, -1)];
    const [found] = lookUp(before, 1);
    if (found !== undefined) this.#acceptance.lookup.observe(found === token ? 1 : 0);
    if (!expertLogits) return;
    sampler.rewind(1);
    this.#acceptance.expert.observe(row.draw(expertLogits) === token ? 1 : 0);
    sampler.accept(token);
  }

  /** @param ids the last token and the drafts after it; the expert has seen them already */
  async #verify(
    row: Row,
    drafter: Drafter,
    ids: readonly number[],
    expertLogits: readonly Float32Array[] | null,
  ): Promise<Step[]> {
    const antiexpertLogits = row.antiexpert ? await score(row.antiexpert, ids) : null;
    const baseLogits = await score(row.base, ids);
    const steps: Step[] = [];
    for (const i of ids.keys()) {
      const step = row.choose(baseLogits[i]!, expertLogits?.[i], antiexpertLogits?.[i]);
      steps.push(step);
      if ("error" in step) break;
      const draft = ids[i + 1];
      if (draft !== undefined) this.#count(drafter, step.token === draft);
      if (step.finish || step.token !== draft) break;
    }
    const unused = ids.length - steps.length;
    if (unused > 0)
      for (const { decoder, sequence } of row.voices) decoder.rewind!(sequence, unused);
    return steps;
  }

  #count(drafter: Drafter, right: boolean): void {
    this.drafted++;
    if (right) this.accepted++;
    this.#acceptance[drafter].observe(right ? 1 : 0);
  }
}

/** The expert goes `count` tokens ahead, each drawn from its own logits with the noise of that position. */
async function draftByExpert(
  row: Row,
  expert: Voice,
  count: number,
): Promise<{ ids: number[]; logits: Float32Array[] }> {
  const { sampler } = row.request;
  const ids = [expert.unseen[0]!];
  const logits: Float32Array[] = [];
  for (let i = 0; i < count; i++) {
    const startedMs = performance.now();
    const turn = { sequence: expert.sequence, id: ids[i]! };
    const [next] = await expert.decoder.decode([turn]);
    expert.runMs.observe(performance.now() - startedMs);
    logits.push(next!);
    if (i === count - 1) break;
    const draft = row.draw(next!);
    sampler.accept(draft);
    ids.push(draft);
  }
  sampler.rewind(count - 1);
  return { ids, logits };
}

function score({ decoder, sequence }: Voice, ids: readonly number[]): Promise<Float32Array[]> {
  return decoder.score(sequence, ids);
}
