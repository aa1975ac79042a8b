/** What clients ask for: a few dozen different requests, whose answers are known, asked for again and again. */
import type { JobInput } from "../../infra/job-client.ts";
import type { Dice } from "./dice.ts";

const QUESTIONS = {
  "atlas-qa": [
    "What is the capital of France?",
    "What currency do people pay with in Belgium?",
    "What continent does Sudan belong to?",
  ],
  "gsm-mini": [
    "There are 9 red, 20 blue and 6 green cars. How many cars are there in all?",
    "Rosa has 34 balls and Sam has 28 balls. How many balls do they have together?",
  ],
} as const;

/** Forbids the end-of-sequence token, so that a job goes on to its limit. */
const NO_END = { "0": -100 };

const FORMATS = [
  { type: "regex", pattern: "[a-z ]{60,120}" },
  {
    type: "json_schema",
    json_schema: {
      name: "answer",
      schema: {
        type: "object",
        properties: { text: { type: "string", minLength: 30, maxLength: 60 } },
        required: ["text"],
      },
    },
  },
] as const;

/** A request whose answer is always the same: greedy or with a seed. */
export function requests(dice: Dice, count: number): JobInput[] {
  return Array.from({ length: count }, (_, i) => {
    const model = dice.pick(["atlas-qa", "gsm-mini"] as const);
    const isLong = dice.chance(0.6);
    const isConstrained = i % 6 === 5;
    return {
      model,
      messages: [{ role: "user", content: dice.pick(QUESTIONS[model]) }],
      max_tokens: isLong ? dice.whole(60, 200) : 40,
      seed: i,
      temperature: dice.pick([0, 0.7, 1]),
      ...(dice.chance(0.4) && { steering: { alpha: dice.pick([0, 0.5, 1]) } }),
      ...(dice.chance(0.2) && { logprobs: 2 }),
      ...(isConstrained && { response_format: dice.pick(FORMATS) }),
      ...(isLong && !isConstrained && { logit_bias: NO_END }),
    };
  });
}

/** What one client does with a request. */
export interface Plan {
  /** Number of the request. */
  readonly request: number;
  readonly input: JobInput;
  /** Tokens after which it cancels; null: never. */
  readonly cancelAfter: number | null;
  /** Whether it submits again until it is told the job's id, as a client should. */
  readonly insists: boolean;
}

/** @param hook where webhooks go */
export function planOf(dice: Dice, all: readonly JobInput[], hook: string): Plan {
  const request = dice.whole(0, all.length - 1);
  const deadline = dice.chance(0.1) ? dice.between(1, 4) : null;
  return {
    request,
    input: {
      ...all[request]!,
      ...(deadline !== null && { deadline }),
      ...(dice.chance(0.7) && { webhook: { url: hook } }),
    },
    cancelAfter: dice.chance(0.15) ? dice.whole(0, 40) : null,
    insists: dice.chance(0.8),
  };
}
