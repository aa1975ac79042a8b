/** How close two tokens of a draw are, with everything known. */
import { Batch } from "../../worker/engine/loop/batch.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { demoRequest, type DemoJob } from "../support/base-server/demo.ts";

/**
 * The difference of the scores (logit / temperature + noise) of the drawn token and of another one, in nats of the logits. Tokens
 * that a truncation cut count by their distance to the least likely one that remained.
 */
export async function tieAt(
  models: Models,
  job: DemoJob,
  tokens: readonly number[],
  other: number,
  at: number,
): Promise<number> {
  const request = demoRequest(models, { ...job, maxTokens: tokens.length + 1 });
  const batch = new Batch({ speculate: false });
  const sequence = batch.add(request)!;
  const temperature = job.sampling?.temperature ?? 1;
  let logits: Float32Array | null = null;
  while (batch.size > 0 && sequence.tokens.length <= at) {
    if (await batch.ready()) continue;
    await batch.step();
    if (sequence.tokens.length === at + 1) logits = Float32Array.from(sequence.logits);
  }
  batch.remove(sequence);
  request.sampler.rewind(sequence.tokens.length - at);
  const { upper, noise } = request.sampler.describe(logits!);
  const scoreOf = (id: number) =>
    temperature === 0 ? upper[id]! : upper[id]! + temperature * noise(id);
  const [drawn, second] = [scoreOf(tokens[at]!), scoreOf(other)];
  if (second <= drawn) return drawn - second;
  return cutDistance(upper, other);
}

/** Distance of a cut token to its neighbours in the order of the logits: with a gap that small, rounding decides the cut. */
function cutDistance(upper: Float32Array, id: number): number {
  let nearest = Number.POSITIVE_INFINITY;
  for (let other = 0; other < upper.length; other++) {
    if (other !== id) nearest = Math.min(nearest, Math.abs(upper[other]! - upper[id]!));
  }
  return nearest;
}
