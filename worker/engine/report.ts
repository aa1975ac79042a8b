/** Puts names to the token ids of a report: from what decode/trace.ts measures to what clients read. */
import type { TokenReport, TokenName } from "../../shared/reports.ts";
import type { Rated, Report } from "../decode/trace.ts";
import type { TokenText } from "../model/token-text.ts";

export function nameReport(
  token: number,
  { masked, logprobs, shift }: Report,
  textOf: (id: number) => TokenText,
): TokenReport {
  const named = (id: number): TokenName => ({ id, ...textOf(id) });
  const changed = ({ id, value }: Rated) => ({ ...named(id), change: value });
  return {
    ...(masked !== undefined && { masked }),
    ...(logprobs && {
      logprobs: {
        ...named(token),
        logprob: logprobs.logprob,
        top: logprobs.top.map(({ id, value }) => ({ ...named(id), logprob: value })),
      },
    }),
    ...(shift && {
      trace: {
        id: token,
        alpha: shift.alpha,
        base: shift.base,
        expert: shift.expert,
        antiexpert: shift.antiexpert,
        steered: shift.steered,
        gain: shift.gain,
        kl: shift.kl,
        same: shift.baseToken === token,
        base_token: named(shift.baseToken),
        promoted: shift.promoted.map(changed),
        demoted: shift.demoted.map(changed),
        ...(masked !== undefined && { masked }),
      },
    }),
  };
}
