/** Which log-probabilities a generation reports besides those of its output. */

/** Log-probabilities of the prompt. */
interface PromptLogprobsOptions {
  /** How many of the likeliest tokens to list at each position. */
  readonly top: number;
  /** The job is refused if its prompt has more tokens. */
  readonly tokensMax: number;
}

/** Every member of stored options. */
export const PROMPT_LOGPROBS: Readonly<Record<keyof PromptLogprobsOptions, true>> = {
  top: true,
  tokensMax: true,
};

/** Log-probabilities at each position of a completion: of the likeliest tokens, or of given ones. */
type CandidateOptions = { readonly top: number } | { readonly ids: readonly number[] };

/** Members of a generation. */
export interface ScoredTokens {
  /** Report the log-probabilities of the prompt; absent for none. */
  readonly promptLogprobs?: PromptLogprobsOptions;
  /** Tokens whose log-probabilities are reported at each position of a completion; absent for none. */
  readonly candidates?: CandidateOptions;
}
