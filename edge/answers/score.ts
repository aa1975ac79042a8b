/** Scoring a given text: the generation request that a score request becomes, and its reply. */
import type { Usage } from "../../shared/api/job-parts.ts";
import type { TokenLogprob, TokenShift } from "../../shared/api/token-details.ts";
import type {
  ChoicesScoreRequest,
  Score,
  ScoredToken,
  ScoreList,
  ScoreRequest,
  ScoreTotals,
  TextsScoreRequest,
} from "../../shared/api/score.ts";
import { choiceId } from "../../shared/jobs/ids.ts";
import type { Input, TextInput } from "../../shared/jobs/record.ts";
import { totalUsage, type EndedChoice } from "../../shared/protocols/whole-reply.ts";
import type { AnsweredJob, GeneratedText } from "../../shared/protocols/chat-replies.ts";
import type { GenerationRequest } from "../../shared/submission/submission.ts";
import { inputOf, textInput } from "../../shared/submission/validate.ts";

export type AnyScoreRequest = ScoreRequest | ChoicesScoreRequest | TextsScoreRequest;
type ScoreFields = Omit<ScoreRequest, "messages" | "prompt" | "completion">;

export function fromScore(body: AnyScoreRequest): GenerationRequest {
  if ("inputs" in body) {
    const { inputs, ...fields } = body;
    return scoring(fields, inputs.flatMap(pairsOf));
  }
  if ("completions" in body) {
    const { completions: _, messages: __, prompt: ___, ...fields } = body;
    return scoring(fields, pairsOf(body));
  }
  const { completion, messages: _, prompt: __, ...fields } = body;
  return scoring(fields, [{ input: inputOf(body), completion: textInput(completion) }]);
}

/** The fields of the completions, in the order of their jobs. */
export const completionParams = (body: ChoicesScoreRequest | TextsScoreRequest): string[] =>
  "inputs" in body
    ? body.inputs.flatMap(({ completions }, i) =>
        completions.map((_, k) => `inputs.${i}.completions.${k}`),
      )
    : body.completions.map((_, k) => `completions.${k}`);

interface InputAndCompletion {
  readonly input: Input;
  readonly completion: TextInput;
}

/** The input is one value for all its completions, so that it is stored once. */
function pairsOf(
  body: Pick<ChoicesScoreRequest, "messages" | "prompt" | "completions">,
): InputAndCompletion[] {
  const input = inputOf(body);
  return body.completions.map((completion) => ({ input, completion: textInput(completion) }));
}

/** The request is greedy, so that `base_token` of the trace is the token that the base finds likeliest. */
function scoring(
  { top_logprobs, candidates, ...fields }: ScoreFields,
  pairs: readonly InputAndCompletion[],
): GenerationRequest {
  return {
    request: {
      ...fields,
      logprobs: top_logprobs ?? 0,
      steering: { ...fields.steering, trace: true },
      // Each text to score has a bound of its own.
      max_tokens: 1,
      temperature: 0,
      seed: 0,
    },
    inputs: pairs.map(({ input }) => input),
    n: 1,
    completions: pairs.map(({ completion }) => completion),
    ...(candidates && { candidates }),
  };
}

export function toScore(
  { id, createdAtMs, generation }: AnsweredJob,
  { text, logprobs = [], trace = [], candidates }: GeneratedText,
  usage: Usage,
): Score {
  return {
    id,
    object: "score",
    created: Math.floor(createdAtMs / 1000),
    model: generation.model,
    text,
    tokens: logprobs.map((entry, i) => ({
      ...scoredToken(entry, trace[i]!),
      ...(candidates && { candidates: candidates[i]! }),
    })),
    sum: totals(trace, (sum) => sum),
    mean: totals(trace, (sum) => sum / Math.max(1, trace.length)),
    usage,
  };
}

/** @param choices the outputs of the request's jobs, in their order */
export function toScoreList(job: AnsweredJob, choices: readonly EndedChoice[]): ScoreList {
  return {
    object: "list",
    model: job.generation.model,
    data: choices.map(({ output, end }, i) =>
      toScore({ ...job, id: choiceId(job.id, i) }, output, end.usage),
    ),
    usage: totalUsage(
      choices.map(({ end }) => end),
      1,
    ),
  };
}

function scoredToken({ token, bytes, top }: TokenLogprob, shift: TokenShift): ScoredToken {
  return { ...shift, token, ...(bytes && { bytes }), top };
}

function totals(trace: readonly TokenShift[], scale: (sum: number) => number): ScoreTotals {
  const total = (role: keyof ScoreTotals): number | null => {
    let sum = 0;
    for (const shift of trace) {
      const logprob = shift[role];
      if (logprob === null) return null;
      sum += logprob;
    }
    return round(scale(sum));
  };
  return {
    base: total("base")!,
    expert: total("expert"),
    antiexpert: total("antiexpert"),
    steered: total("steered")!,
  };
}

/** To four decimals, as the log-probabilities of the tokens. */
const round = (value: number) => Math.round(value * 1e4) / 1e4;
