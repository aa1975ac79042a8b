/** Scoring: what is asked of the worker, and the shape in which it is answered. */
import type { Usage } from "../shared/contract.ts";
import type { TokenLogprob, TokenShift } from "../shared/reports.ts";
import type { Score, ScoredToken, ScoreRequest, ScoreTotals } from "../shared/score.ts";
import type { AnsweredJob, Piece } from "../shared/openai-shapes.ts";
import type { Asking } from "../shared/submission.ts";
import { inputOf, reportTokensMax, textInput } from "../shared/validate.ts";

/** Greedy, so that what the base would have taken is what it finds likeliest. */
export function scoringOf(body: ScoreRequest): Asking {
  const { top_logprobs, completion, messages: _, prompt: __, ...fields } = body;
  const logprobs = top_logprobs ?? 0;
  const request = {
    ...fields,
    logprobs,
    steering: { ...fields.steering, trace: true },
    max_tokens: reportTokensMax(logprobs, true, 1),
    temperature: 0,
    seed: 0,
  };
  return { request, inputs: [inputOf(body)], n: 1, completion: textInput(completion) };
}

export function scoreShape(
  { id, createdAtMs, generation }: AnsweredJob,
  { text, logprobs = [], trace = [] }: Piece,
  usage: Usage,
): Score {
  return {
    id,
    object: "score",
    created: Math.floor(createdAtMs / 1000),
    model: generation.model,
    text,
    tokens: logprobs.map((entry, i) => scoredToken(entry, trace[i]!)),
    sum: totals(trace, (sum) => sum),
    mean: totals(trace, (sum) => sum / trace.length),
    usage,
  };
}

function scoredToken({ token, bytes, top }: TokenLogprob, shift: TokenShift): ScoredToken {
  return { ...shift, token, ...(bytes && { bytes }), top };
}

function totals(trace: readonly TokenShift[], of: (sum: number) => number): ScoreTotals {
  const total = (role: keyof ScoreTotals): number | null => {
    let sum = 0;
    for (const shift of trace) {
      const logprob = shift[role];
      if (logprob === null) return null;
      sum += logprob;
    }
    return round(of(sum));
  };
  return {
    base: total("base")!,
    expert: total("expert"),
    antiexpert: total("antiexpert"),
    steered: total("steered")!,
  };
}

/** To what its parts are told to. */
const round = (value: number) => Math.round(value * 1e4) / 1e4;
