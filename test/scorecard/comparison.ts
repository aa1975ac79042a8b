/** Compares the answers of several systems to the same questions. Shares are in percent, differences in points. */
import type { Answer } from "../eval/answer.ts";
import {
  bootstrapInterval,
  percentTrue,
  wilsonInterval,
  type Interval,
} from "../eval/statistics.ts";

/** A number with its 95% interval. */
export interface Estimate {
  readonly value: number;
  readonly interval: Interval;
}

export function share(values: readonly boolean[]): Estimate {
  return { value: percentTrue(values), interval: wilsonInterval(values) };
}

/** How much more of the same questions the first system answers right. */
export interface Difference extends Estimate {
  /** Questions that this many answers would take to tell a difference of this size from none, with a power of 80%. */
  readonly questionsNeeded: number;
}

export function difference(some: readonly boolean[], others: readonly boolean[]): Difference {
  const interval = bootstrapInterval([some, others], ([a, b]) => a! - b!);
  const value = percentTrue(some) - percentTrue(others);
  const differing = some.filter((right, i) => right !== others[i]).length / some.length;
  return { value, interval, questionsNeeded: questionsNeeded(value / 100, differing) };
}

/**
 * Pairs that McNemar's test needs (Connor 1987, to first order).
 * @param effect difference of the shares
 * @param differing share of the questions that the two answer differently
 */
function questionsNeeded(effect: number, differing: number): number {
  const z = 1.96 + 0.84;
  return effect === 0 ? Infinity : Math.ceil((z ** 2 * differing) / effect ** 2);
}

/** (proxy - base) / (tuned - base), in percent; null if tuning the base itself gains nothing. */
export function gapClosed(
  base: readonly boolean[],
  proxy: readonly boolean[],
  tuned: readonly boolean[],
): Estimate | null {
  const closed = ([b, p, t]: readonly number[]) => (100 * (p! - b!)) / (t! - b!);
  const value = closed([base, proxy, tuned].map(percentTrue));
  if (percentTrue(tuned) <= percentTrue(base)) return null;
  const interval = bootstrapInterval([base, proxy, tuned], closed);
  // A resample in which tuning gains nothing has no gap.
  return interval.every(Number.isFinite) ? { value, interval } : null;
}

/** The effect of steering on the tokens of a system. */
export interface Steering {
  /** Tokens that the base alone would have chosen otherwise, in percent. */
  readonly intervention: number;
  /** Mean KL(steered || base) of a token, in nats. */
  readonly kl: number;
}

export function steeringOf(answers: readonly Answer[]): Steering {
  const sum = (of: (answer: Answer) => number) => answers.reduce((total, a) => total + of(a), 0);
  const tokens = Math.max(
    1,
    sum((answer) => answer.tokens),
  );
  return {
    intervention: (100 * sum(({ changed }) => changed)) / tokens,
    kl: sum(({ kl }) => kl) / tokens,
  };
}

/** Answers to questions that the pair is not for, without and with steering. */
export interface Damage {
  readonly questions: number;
  /** Right answers, if the questions have answers; otherwise null. */
  readonly base: Estimate | null;
  readonly proxy: Estimate | null;
  /** Of the questions that the base answers right, those that the steered base answers wrong. Null if there is none. */
  readonly broken: Estimate | null;
  /** Answers that steering leaves as they are. */
  readonly same: Estimate;
}

/** @param right null if the questions have no answers */
export function damageOf(
  right: { readonly base: readonly boolean[]; readonly proxy: readonly boolean[] } | null,
  texts: { readonly base: readonly string[]; readonly proxy: readonly string[] },
): Damage {
  const lost = right?.proxy.flatMap((isRight, i) => (right.base[i] ? [!isRight] : [])) ?? [];
  return {
    questions: texts.base.length,
    base: right && share(right.base),
    proxy: right && share(right.proxy),
    broken: lost.length === 0 ? null : share(lost),
    same: share(texts.base.map((text, i) => text.trim() === texts.proxy[i]!.trim())),
  };
}

/** A prediction for a pair, from answers that were not judged. */
export interface Prediction {
  readonly prompts: number;
  readonly steering: Steering;
  /** Mean confidence of each system in its answers, 0 to 100; see `confidence`. */
  readonly confidence: Readonly<Record<"base" | "expert" | "proxy", number>>;
  /** The confidence that steering adds, in points: an estimate of the gain in right answers, not a measurement. */
  readonly predictedGain: Estimate;
  /** Answers of the steered base that are those of the expert, and of the base. */
  readonly sameAsExpert: Estimate;
  readonly sameAsBase: Estimate;
}

export function predict(
  answers: Readonly<Record<"base" | "expert" | "proxy", readonly Answer[]>>,
): Prediction {
  const { base, expert, proxy } = answers;
  const gains = proxy.map((answer, i) => 100 * (confidence(answer) - confidence(base[i]!)));
  const same = (others: readonly Answer[]) =>
    share(proxy.map(({ text }, i) => text.trim() === others[i]!.text.trim()));
  const confidenceOf = (of: readonly Answer[]) => 100 * mean(of.map(confidence));
  return {
    prompts: proxy.length,
    steering: steeringOf(proxy),
    confidence: {
      base: confidenceOf(base),
      expert: confidenceOf(expert),
      proxy: confidenceOf(proxy),
    },
    predictedGain: meanEstimate(gains),
    sameAsExpert: same(expert),
    sameAsBase: same(base),
  };
}

/** The mean probability (geometric) of an answer's tokens; 0 for an answer that did not end by itself. */
function confidence({ stopped, logprob, tokens }: Answer): number {
  return stopped ? Math.exp(logprob / tokens) : 0;
}

function meanEstimate(values: readonly number[]): Estimate {
  const value = mean(values);
  const variance = values.reduce((sum, x) => sum + (x - value) ** 2, 0) / (values.length - 1 || 1);
  const half = 1.96 * Math.sqrt(variance / values.length);
  return { value, interval: [value - half, value + half] };
}

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
