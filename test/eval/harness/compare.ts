/** Compares the results of two runs, request by request. */
import type { Api } from "./api.ts";
import type { LmEvalRun, Sample } from "./lm-eval.ts";

export interface Comparison {
  readonly compared: string;
  readonly requests: number;
  /** Largest difference of log-probabilities, divided by the tokens of the text, in nats. */
  readonly maxDifference: number;
  /** Generated texts, and marks of greedy texts, that differ. */
  readonly differingTexts: number;
}

/** A token of the demo's tokenizer has this many characters at most, so that a text is not taken for longer than it is. */
const TOKEN_CHARS_MAX = 16;
const tokensAtLeast = (text: string) => Math.max(1, Math.floor(text.length / TOKEN_CHARS_MAX));

export function compareRuns(expected: LmEvalRun, actual: LmEvalRun): Comparison {
  const keyOf = ({ task, context, text, logprob }: Sample) =>
    JSON.stringify([task, context, logprob === null ? "" : text]);
  const others = new Map(actual.samples.map((sample) => [keyOf(sample), sample]));
  let maxDifference = 0;
  let differingTexts = 0;
  for (const sample of expected.samples) {
    const other = others.get(keyOf(sample));
    if (!other) throw new Error(`${actual.name} lacks ${keyOf(sample)}`);
    if (sample.text !== other.text || sample.isGreedy !== other.isGreedy) differingTexts++;
    if (sample.logprob === null || other.logprob === null) continue;
    const difference = Math.abs(sample.logprob - other.logprob) / tokensAtLeast(sample.text);
    maxDifference = Math.max(maxDifference, difference);
  }
  const compared = `${expected.name} and ${actual.name}`;
  return { compared, requests: expected.samples.length, maxDifference, differingTexts };
}

/** Compares continuations of a context with their scores. */
export async function compareWithScores(
  api: Api,
  model: string,
  { name, samples }: LmEvalRun,
): Promise<Comparison> {
  const scored = samples.filter(({ logprob, context }) => logprob !== null && context !== "");
  const scores = await api.score(
    model,
    scored.map(({ context, text }) => [context, text]),
  );
  const differences = scored.map(({ logprob }, i) => {
    const { sum, tokens } = scores[i]!;
    return Math.abs(logprob! - sum.steered) / tokens.length;
  });
  return {
    compared: `${name} and /v1/score`,
    requests: scored.length,
    maxDifference: Math.max(...differences),
    differingTexts: 0,
  };
}
