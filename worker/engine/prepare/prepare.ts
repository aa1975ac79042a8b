/**
 * Prepares a generation for the engine: finds its ensembles, makes token ids of its texts, checks all ids, and bounds its
 * tokens by the context. What is wrong with a generation is found here, so that it costs the engine thread nothing.
 */
import { createHash } from "node:crypto";
import { contextLengthExceeded } from "../../../shared/api/context-length.ts";
import { AppError } from "../../../shared/api/errors.ts";
import type {
  PreparedGeneration,
  PrepareRequest,
  SentGeneration,
  TokenIds,
} from "../../engine-client/messages.ts";
import type { EnsembleTokenizers, Role } from "../model/ensemble-tokenizers.ts";
import type { PromptInput } from "../model/tokenizer.ts";
import { chatOfBase } from "./chat-base.ts";
import type { CompiledGrammars } from "./compiled-grammars.ts";
import { toTokenIds, type PromptCache } from "./prompt-cache.ts";
import { checkScoredPrompt, scoredPromptTokens } from "./scored-prompt.ts";

/** The ensembles of a worker, and the prompts that it has tokenized. */
export interface Preparing {
  readonly ensembles: ReadonlyMap<string, EnsembleTokenizers>;
  readonly prompts: PromptCache;
  readonly grammars: CompiledGrammars;
}

/**
 * Token ids, checked ids and the compiled grammar of a generation.
 * @throws AppError model_not_found, invalid_request, context_length_exceeded
 */
export function prepare(
  { ensembles, prompts: cache, grammars }: Preparing,
  {
    tenant,
    generation,
    resume,
    submittedAtMs: nowMs,
  }: Pick<PrepareRequest, "tenant" | "generation" | "resume" | "submittedAtMs">,
): PreparedGeneration {
  const { model, pairs, alpha } = generation;
  const { input: messages, completion, grammar, tools, ...rest } = generation;
  const isShown = tools !== undefined && tools.choice !== "none";
  const input: PromptInput = isShown ? { ...messages, tools: tools.functions } : messages;
  const ensemble = findEnsemble(ensembles, model);
  const pairEnsembles = pairs?.map((pair) => findEnsemble(ensembles, pair.model)) ?? [];
  const contextTokens = Math.min(...[ensemble, ...pairEnsembles].map((each) => each.contextTokens));
  checkIds(resume, "prompt", ensemble);
  if (input.kind === "tokens") checkIds(input.ids, "prompt", ensemble);
  const inputHash = hashOf(input);
  const encode = (of: EnsembleTokenizers, role: Role): TokenIds => {
    // A template that prints the date sees the time of the submission, so that a takeover on the next day gives the same prompt.
    const time = of.readsClock[role] ? [nowMs] : [];
    const parts = [tenant, of.id, of.tokenizerKeys[role], contextTokens, inputHash, ...time];
    const options = { tokensMax: contextTokens, nowMs };
    return cache.get(JSON.stringify(parts), () => of.encodePrompt(role, input, options));
  };
  const base = encode(ensemble, "base");
  const pairOf = (of: EnsembleTokenizers) => ({
    expert: encode(of, "expert"),
    antiexpert: encode(of, "antiexpert"),
  });
  // At alpha 0 only the base runs. With pairs, their experts and antiexperts run instead of the ensemble's own.
  const isSteered = alpha !== 0;
  const own = isSteered && !pairs ? pairOf(ensemble) : { expert: base, antiexpert: base };
  const pairPrompts = pairEnsembles.map(isSteered ? pairOf : () => own);
  const prompts = [own, ...pairPrompts].flatMap((pair) => [pair.expert, pair.antiexpert]);
  const promptTokens = Math.max(base.length, ...prompts.map(({ length }) => length));
  const left = contextTokens - promptTokens;
  if (left < Math.min(1, generation.maxTokens)) {
    throw promptTooLong(input, promptTokens, contextTokens);
  }
  const forcedTokens = completion
    ? completionTokens(ensemble, generation, completion, { promptTokens, contextTokens })
    : null;
  checkScoredPrompt(generation, base.length);
  const maxTokens = Math.min(forcedTokens?.length ?? generation.maxTokens, left);
  return {
    generation: rest,
    prompts: { base, ...own },
    pairPrompts,
    forcedTokens,
    scoredPromptTokens: generation.promptLogprobs ? scoredPromptTokens([base, ...prompts]) : null,
    grammar: grammar ? grammars.get(grammar) : null,
    chat: chatOfBase(ensemble, generation, forcedTokens),
    maxTokens,
    cacheTokensMax: promptTokens + maxTokens,
  };
}

function promptTooLong(
  { kind }: PromptInput,
  promptTokens: number,
  contextTokens: number,
): AppError {
  const param = kind === "chat" ? "messages" : "prompt";
  const problem = `However, your ${param} resulted in ${promptTokens} tokens, and the answer needs room as well.`;
  return contextLengthExceeded(contextTokens, problem, param);
}

function findEnsemble(
  ensembles: ReadonlyMap<string, EnsembleTokenizers>,
  id: string,
): EnsembleTokenizers {
  const ensemble = ensembles.get(id);
  if (ensemble) return ensemble;
  throw new AppError("model_not_found", `This worker does not serve ${id}`);
}

/** The tokens of the completion by the base's tokenizer. @throws AppError invalid_request, context_length_exceeded */
function completionTokens(
  ensemble: EnsembleTokenizers,
  { maxTokens }: SentGeneration,
  completion: NonNullable<SentGeneration["completion"]>,
  { promptTokens, contextTokens }: { promptTokens: number; contextTokens: number },
): TokenIds {
  const param = "completion";
  if (completion.kind === "tokens") checkIds(completion.ids, param, ensemble);
  const ids =
    completion.kind === "tokens"
      ? completion.ids
      : ensemble.encodeCompletion(completion.text, contextTokens);
  const count = ids.length;
  if (count === 0) {
    throw new AppError("invalid_request", "completion must have at least one token", { param });
  }
  if (promptTokens + count > contextTokens) {
    const problem = `However, your completion has ${count} tokens and the prompt ${promptTokens}.`;
    throw contextLengthExceeded(contextTokens, problem, param);
  }
  if (count > maxTokens) {
    const message = `completion has ${count} tokens; at most ${maxTokens} can be scored with this top_logprobs`;
    throw new AppError("invalid_request", message, { param });
  }
  return toTokenIds(ids);
}

/**
 * Refuses ids outside the vocabulary, because onnxruntime would fail the whole batch. Ids come from requests and from event
 * logs, which may be older than the models. @throws AppError invalid_request
 */
function checkIds(
  ids: readonly number[],
  param: string,
  { id, vocabSize }: EnsembleTokenizers,
): void {
  const unknown = ids.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
  if (unknown === undefined) return;
  const message = `${param}: token id ${unknown} is not in the vocabulary of ${id}, which has ${vocabSize} tokens`;
  throw new AppError("invalid_request", message, { param });
}

const hashOf = (input: PromptInput) =>
  createHash("sha256").update(JSON.stringify(input)).digest("hex");
