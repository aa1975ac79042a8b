/**
 * When a job that waits will start: from the tokens before it and what workers have measured. A simple model, so its bounds
 * are wide: slots fall free one after the other, each when its job has taken as many tokens, at the speed, as jobs did of
 * late; what n of them take together is gamma distributed.
 */
import * as v from "valibot";
import type { Ahead } from "./fair-queue.ts";

/** What a worker says of itself, and of the jobs that it ended of late. */
export const Pace = v.object({
  /** Unix milliseconds. */
  atMs: v.number(),
  slots: v.number(),
  busy: v.number(),
  /** Of one slot; null until a job has ended, as are those below. */
  tokensPerSecond: v.nullable(v.number()),
  /** Tokens of a job, prompt included. */
  tokensMean: v.nullable(v.number()),
  /** Of the tokens that a job might have come to, those that it did. */
  share: v.nullable(v.number()),
  /** Squared coefficient of variation of jobs' tokens. */
  spread: v.nullable(v.number()),
});
export type Pace = v.InferOutput<typeof Pace>;

/** Seconds until a job starts. */
export interface Eta {
  readonly p50: number;
  readonly p90: number;
}

/** After so long, nobody believes a worker's word. */
const FRESH_MS = 10_000;
/** Quantiles of the normal distribution. */
const Z90 = 1.2816;

/** Null where no worker runs, or none has ended a job yet and all are busy. */
export function etaOf(
  ahead: Ahead,
  paces: readonly Pace[],
  nowMs: number,
): (Eta & { p10: number }) | null {
  const live = paces.filter(({ atMs }) => nowMs - atMs < FRESH_MS);
  const sum = (of: (pace: Pace) => number) => live.reduce((total, pace) => total + of(pace), 0);
  const slots = sum((pace) => pace.slots);
  if (slots === 0) return null;
  const releases = ahead.jobs + 1 - sum(({ slots, busy }) => Math.max(0, slots - busy));
  if (releases <= 0) return { p10: 0, p50: 0, p90: 0 };
  const known = live.flatMap(({ slots, tokensPerSecond, tokensMean, share, spread }) =>
    tokensPerSecond === null || tokensMean === null || share === null || spread === null
      ? []
      : [{ slots, tokensPerSecond, tokensMean, share, spread }],
  );
  if (known.length === 0) return null;
  const mean = (of: (pace: (typeof known)[number]) => number) =>
    known.reduce((total, pace) => total + of(pace) * pace.slots, 0) /
    known.reduce((total, pace) => total + pace.slots, 0);
  const perSecond = slots * mean((pace) => pace.tokensPerSecond);
  // One job that runs must end first, then as many of those before as find no free slot.
  const waiting = ahead.jobs === 0 ? 0 : (ahead.tokens * (releases - 1)) / ahead.jobs;
  const tokens = mean((pace) => pace.tokensMean) + waiting * mean((pace) => pace.share);
  const shape =
    releases /
    Math.max(
      MIN_SPREAD,
      mean((pace) => pace.spread),
    );
  const seconds = tokens / perSecond;
  const at = (z: number) => Math.round(seconds * gammaQuantile(shape, z) * 100) / 100;
  return { p10: at(-Z90), p50: at(0), p90: at(Z90) };
}

/** Where in their run jobs are is not known, even if all are alike. */
const MIN_SPREAD = 0.5;

/** Of a gamma distribution of mean 1, by Wilson and Hilferty's approximation. */
function gammaQuantile(shape: number, z: number): number {
  return Math.max(0, 1 - 1 / (9 * shape) + z / (3 * Math.sqrt(shape))) ** 3;
}
