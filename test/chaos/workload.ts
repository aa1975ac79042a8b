/** The requests of the clients: a few dozen, repeated many times, whose output is known from a run without faults. */
import type { JobInput } from "../../infra/cli/job-client.ts";
import type { SeededRandom } from "./seeded-random.ts";

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

/** Forbids the end-of-sequence token, so that a job generates up to its limit. */
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

/** Requests whose output is always the same: greedy or with a seed. */
export function drawRequests(random: SeededRandom, count: number): JobInput[] {
  return Array.from({ length: count }, (_, i) => {
    const model = random.pick(["atlas-qa", "gsm-mini"] as const);
    const isLong = random.chance(0.6);
    const isConstrained = i % 6 === 5;
    return {
      model,
      messages: [{ role: "user", content: random.pick(QUESTIONS[model]) }],
      max_tokens: isLong ? random.integer(60, 200) : 40,
      seed: i,
      temperature: random.pick([0, 0.7, 1]),
      ...(random.chance(0.4) && { steering: { alpha: random.pick([0, 0.5, 1]) } }),
      ...(random.chance(0.2) && { logprobs: 2 }),
      ...(isConstrained && { response_format: random.pick(FORMATS) }),
      ...(isLong && !isConstrained && { logit_bias: NO_END }),
    };
  });
}

/** A client's choices for one request. */
export interface ClientPlan {
  /** Index of the request. */
  readonly request: number;
  readonly input: JobInput;
  /** Number of tokens after which it cancels; null if it does not. */
  readonly cancelAfter: number | null;
  /** Whether it repeats a submission that failed until it gets the job's id, as a client should. */
  readonly retriesSubmission: boolean;
}

/** @param webhookUrl URL of the webhook receiver */
export function drawPlan(
  random: SeededRandom,
  all: readonly JobInput[],
  webhookUrl: string,
): ClientPlan {
  const request = random.integer(0, all.length - 1);
  const deadline = random.chance(0.1) ? random.between(1, 4) : null;
  return {
    request,
    input: {
      ...all[request]!,
      ...(deadline !== null && { deadline }),
      ...(random.chance(0.7) && { webhook: { url: webhookUrl } }),
    },
    cancelAfter: random.chance(0.15) ? random.integer(0, 40) : null,
    retriesSubmission: random.chance(0.8),
  };
}
