/** Requests that were made to be expensive, for `npm run load:hostile`. Each is one tenant's, beside another tenant's stream. */
import { LIMITS } from "../../shared/api/limits.ts";
import type { ValidGeneration } from "../../shared/jobs/record.ts";
import type { ResponseFormat } from "../../shared/api/response-formats.ts";
import { COSTLY_FORMATS } from "../support/costly-formats.ts";

export interface HostileInput {
  readonly name: string;
  /** Whether the engine accepts the requests. A refused one must not change the gaps of the stream beside it at all. */
  readonly isAccepted: boolean;
  /** Requests at the same time. */
  readonly concurrency: number;
  readonly changes: Partial<ValidGeneration>;
  /** Compiled for each request, by edge and worker, as if each request had another one. */
  readonly format?: ResponseFormat;
}

/** Context of the demo models. */
const CONTEXT_TOKENS = 1_024;
const VOCAB_SIZE = 2_048;
/** Without end tokens, so that an output uses its whole token limit. */
const NO_END = [0, -100] as const;

const text = (value: string) => ({ input: { kind: "text", text: value } }) as const;
/** Different tokens in each position, so that no prefix of another prompt is reused. */
const tokens = (count: number) => ({
  get input() {
    const ids = Array.from({ length: count }, () => 5 + Math.floor(Math.random() * 2_000));
    return { kind: "tokens", ids } as const;
  },
});

/** A request of a usual client; the gaps beside the others are compared with those beside it. */
export const ORDINARY = { ...tokens(40), logitBias: [NO_END], maxTokens: 64 };

/** The longest texts that are scored, with as much as may be reported of each token. */
const SCORED: Partial<ValidGeneration> = {
  ...tokens(1),
  completion: { kind: "tokens", ids: Array.from({ length: CONTEXT_TOKENS - 1 }, (_, i) => 5 + i) },
  maxTokens: CONTEXT_TOKENS - 1,
  logprobs: 20,
  candidates: { top: LIMITS.candidatesMax },
};
const SCORED_PROMPT: Partial<ValidGeneration> = {
  get input() {
    return tokens(CONTEXT_TOKENS - 1).input;
  },
  maxTokens: 1,
  promptLogprobs: { top: LIMITS.topLogprobsMax, tokensMax: CONTEXT_TOKENS },
};

const refused = (name: string, changes: Partial<ValidGeneration>): HostileInput => ({
  name,
  isAccepted: false,
  concurrency: 1,
  changes,
});
const accepted = (
  name: string,
  changes: Partial<ValidGeneration>,
  concurrency = 1,
): HostileInput => ({
  name,
  isAccepted: true,
  concurrency,
  changes: Object.defineProperties(
    { ...ORDINARY },
    Object.getOwnPropertyDescriptors(changes),
  ) as Partial<ValidGeneration>,
});

export const HOSTILE_INPUTS: readonly HostileInput[] = [
  refused("1 MB of İ", text("İ".repeat(500_000))),
  refused("20 kB of İ, within the bytes", text("İ".repeat(10_000))),
  refused("500 kB without spaces", text("a".repeat(500_000))),
  refused("500 kB of spaces", text(`${" ".repeat(499_999)}x`)),
  refused("combining marks", text(`a${"\u0301\u0316".repeat(5_000)}`)),
  refused("unknown token ids", { input: { kind: "tokens", ids: [VOCAB_SIZE] } }),
  refused("a completion of 500 kB", { completion: { kind: "text", text: "İ".repeat(250_000) } }),
  accepted("a prompt that fills the context", { ...tokens(CONTEXT_TOKENS - 8), maxTokens: 8 }),
  accepted("logprobs 20 and trace", { logprobs: 20, trace: true }),
  accepted("a flat distribution, top_p 0.999", { temperature: 2, topP: 0.999 }),
  accepted("penalties", { repetitionPenalty: 1.5, presencePenalty: 2, frequencyPenalty: 2 }),
  accepted("logit_bias of 1,024 tokens", {
    logitBias: [NO_END, ...Array.from({ length: 1_023 }, (_, i) => [i + 1, 1] as const)],
  }),
  accepted("16 stop strings", {
    stop: Array.from({ length: 16 }, (_, i) => `${"a".repeat(250)}${i}`),
  }),
  accepted("only special tokens", { logitBias: [[1, 100], NO_END], maxTokens: 400 }),
  accepted("guards and a schedule", {
    guards: { baseNucleus: 0.99, klBudget: 0.5, fallback: 0.1 },
    schedule: Array.from({ length: 32 }, (_, i) => [i, i % 2] as const),
  }),
  accepted("a scored completion, logprobs 20 and trace", {
    completion: { kind: "tokens", ids: Array.from({ length: 400 }, () => 5) },
    maxTokens: 400,
    logprobs: 20,
    trace: true,
  }),
  accepted("a scored text, 1,024 candidates", SCORED),
  accepted("scored texts, 1,024 candidates, 7 at once", SCORED, 7),
  accepted("a scored prompt, 20 log-probabilities", SCORED_PROMPT),
  accepted("scored prompts, 20 log-probabilities, 7 at once", SCORED_PROMPT, 7),
  accepted(
    "everything, 7 at once",
    {
      ...tokens(0),
      get input() {
        return tokens(CONTEXT_TOKENS - 64).input;
      },
      logprobs: 20,
      trace: true,
      temperature: 2,
      topP: 0.999,
      repetitionPenalty: 1.5,
    },
    7,
  ),
  ...COSTLY_FORMATS.map(([name, format]) => ({
    ...accepted(`a response format: ${name}`, {}),
    format,
  })),
];
