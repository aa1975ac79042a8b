/** What is told of tokens, put together: one entry for each token, of the kinds that were asked for. */
import type { TokenLogprob, TokenReports, TokenShift } from "./contract.ts";

/** What is told of one token. */
export interface TokenReport {
  readonly logprobs?: TokenLogprob;
  readonly trace?: TokenShift;
}

/** The reports of successive tokens as one. */
export function gatherReports(reports: readonly TokenReport[]): TokenReports {
  return joinReports(
    reports.map(({ logprobs, trace }) => ({
      ...(logprobs && { logprobs: [logprobs] }),
      ...(trace && { trace: [trace] }),
    })),
  );
}

/** The reports of successive runs of tokens as one. */
export function joinReports(parts: readonly TokenReports[]): TokenReports {
  const logprobs = parts.flatMap((part) => part.logprobs ?? []);
  const trace = parts.flatMap((part) => part.trace ?? []);
  return { ...(logprobs.length > 0 && { logprobs }), ...(trace.length > 0 && { trace }) };
}
