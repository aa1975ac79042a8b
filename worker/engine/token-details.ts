/** Adds the tokens' texts to an analysis (decode/token-analysis.ts), which gives the token details of the API. */
import type { TokenDetail, TokenName } from "../../shared/api/token-details.ts";
import type { TokenValue } from "./decode/distribution-change.ts";
import type { TokenAnalysis } from "./decode/token-analysis.ts";
import type { TokenText } from "./model/token-text.ts";

/** A token of the prompt that is not scored: the first one. */
export function unscoredDetail(token: number, textOf: (id: number) => TokenText): TokenDetail {
  return { prompt: { id: token, ...textOf(token), logprob: null, rank: null, top: [] } };
}

/** @param endIds tokens that end the output: they are not a part of it, so they have no log-probability, as in OpenAI's API */
export function toTokenDetail(
  token: number,
  { prompt, masked, logprobs, trace, candidates, isDrafted, baseError }: TokenAnalysis,
  textOf: (id: number) => TokenText,
  endIds: ReadonlySet<number> = new Set(),
): TokenDetail {
  const named = (id: number): TokenName => ({ id, ...textOf(id) });
  const likely = (top: readonly TokenValue[]) =>
    top.map(({ id, value }) => ({ ...named(id), logprob: value }));
  const withChange = ({ id, value }: TokenValue) => ({ ...named(id), change: value });
  return {
    ...(prompt && { prompt: { ...named(token), ...prompt, top: likely(prompt.top) } }),
    ...(masked !== undefined && { masked }),
    ...(candidates && { candidates }),
    ...(logprobs &&
      !endIds.has(token) && {
        logprobs: {
          ...named(token),
          logprob: logprobs.logprob,
          top: likely(logprobs.top),
        },
      }),
    ...(trace && {
      trace: {
        id: token,
        alpha: trace.alpha,
        base: trace.base,
        expert: trace.expert,
        antiexpert: trace.antiexpert,
        steered: trace.steered,
        gain: trace.gain,
        kl: trace.kl,
        same: trace.baseToken === token,
        base_token: named(trace.baseToken),
        promoted: trace.promoted.map(withChange),
        demoted: trace.demoted.map(withChange),
        ...(isDrafted && { drafted: true as const }),
        ...(masked !== undefined && { masked }),
        ...(baseError !== undefined && { base_error: roundUp(baseError) }),
      },
    }),
  };
}

/** A bound must not become smaller. */
const roundUp = (value: number) => Math.ceil(value * 1e4) / 1e4;
