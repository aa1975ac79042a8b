/** Greedy answers of one ensemble at one alpha, from the worker's decode loop, with what steering did to them. */
import type { Input } from "../../shared/jobs/record.ts";
import { totalDrafts } from "../../worker/engine-client/messages.ts";
import type { GateOptions } from "../../worker/engine/decode/gate.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import { Batch } from "../../worker/engine/loop/batch.ts";
import type { Sequence, TokenStep } from "../../worker/engine/loop/sequence.ts";
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { sampling } from "../support/sampling.ts";

export interface AnswerOptions {
  readonly alpha: number;
  readonly maxTokens: number;
  /** Answers at the same time. */
  readonly batchSize: number;
  /** Whether to measure what steering changes. It costs some percent of the time. */
  readonly trace?: boolean;
  readonly gate?: GateOptions;
  /** Called with each sequence that has finished. */
  readonly onEnd?: (sequence: Sequence) => void;
}

export interface Answer {
  readonly text: string;
  /** Ended with the end-of-sequence token. */
  readonly stopped: boolean;
  readonly tokens: number;
  /** Sum of the tokens' log-probabilities, in nats; 0 without a trace. */
  readonly logprob: number;
  /** Tokens that the base alone would have chosen otherwise; 0 without a trace. */
  readonly changed: number;
  /** Sum of KL(steered || base) over the tokens, in nats; 0 without a trace. */
  readonly kl: number;
  readonly drafted: number;
  readonly accepted: number;
}

const EMPTY: Answer = {
  text: "",
  stopped: false,
  tokens: 0,
  logprob: 0,
  changed: 0,
  kl: 0,
  drafted: 0,
  accepted: 0,
};

/** @returns answers in the order of the inputs */
export async function answerAll(
  ensemble: Ensemble,
  inputs: readonly Input[],
  options: AnswerOptions,
): Promise<Answer[]> {
  const batch = new Batch({ speculate: options.batchSize === 1 });
  const waiting = [...inputs.entries()];
  const indexOf = new Map<Sequence, number>();
  const answers = inputs.map(() => EMPTY);
  while (waiting.length > 0 || batch.size > 0) {
    for (const [index, input] of waiting.splice(0, options.batchSize - batch.size)) {
      indexOf.set(batch.add(requestFor(ensemble, input, options))!, index);
    }
    // A remote base may have answered none of the calls yet.
    if (await batch.ready()) continue;
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      const index = indexOf.get(step.sequence)!;
      answers[index] = withStep(answers[index]!, step);
      if (step.finish) options.onEnd?.(step.sequence);
    }
  }
  return answers;
}

function withStep(answer: Answer, { sequence, text, finish, analysis }: TokenStep): Answer {
  const { logprobs, trace } = analysis ?? {};
  return {
    text: answer.text + text,
    stopped: finish === "stop",
    tokens: answer.tokens + 1,
    logprob: answer.logprob + (logprobs?.logprob ?? 0),
    changed: answer.changed + (trace && trace.baseToken !== sequence.tokens.at(-1) ? 1 : 0),
    kl: answer.kl + (trace?.kl ?? 0),
    ...totalDrafts(sequence.drafts),
  };
}

function requestFor(
  ensemble: Ensemble,
  input: Input,
  { alpha, maxTokens, trace, gate }: AnswerOptions,
) {
  const { models, eosIds, decode, silentIds, unusedIds, contextTokens } = ensemble;
  const prompts = ensemble.encodePrompts(input, contextTokens);
  const longest = Math.max(...Object.values(prompts).map(({ length }) => length));
  const sampler = new Sampler(sampling({ temperature: 0 }), prompts.base, unusedIds);
  const output = new Output({
    decode,
    silentIds,
    stop: [],
    eosIds,
    maxTokens: Math.max(1, Math.min(maxTokens, contextTokens - longest)),
  });
  const chat = input.kind === "chat" ? { chat: input.messages } : {};
  const analysis = trace ? { analysis: { logprobs: 0, trace: alpha !== 0 } } : {};
  return {
    models,
    prompts,
    alpha,
    sampler,
    output,
    resume: [],
    ...(gate && { gate }),
    ...chat,
    ...analysis,
  };
}
